"""Rewards behind a server: their names, what reaches them, and what happens when the server changes or goes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from rewards.errors import SetupError, UsageError
from rewards.parse import parse_rewards, spec_from_json
from rewards.pool import ScoringPool, score_batch
from rewards.prompt import Prompt
from rewards.registry import card_of, load, provenance_of
from rewards.remote.client import ServedReward, describe_server, forget_servers
from tests.rewards.served import serving

ROOT = Path(__file__).resolve().parents[3]
WIDTH = """
import time
from rewards.card import Card
from rewards.errors import ScoringError, UsageError
from rewards.reward import Reward
from rewards.score import Score

class Width(Reward):
    card = Card(name="width", version=3, unit="pixels", bounds=(0, None), higher_is_better=True, summary="width",
                train_scale=0.5)
    checked = []
    pause = 0.0

    def check(self, prompt):
        self.checked.append(prompt.text)
        if "wide" not in prompt.text:
            raise UsageError(f"not about width: {prompt.text}")

    def score(self, images, prompts):
        time.sleep(self.pause * len(images))
        if any(prompt.spec.get("fail") for prompt in prompts):
            raise ScoringError("cannot")
        return [Score(image.width, prompt.text) for image, prompt in zip(images, prompts, strict=True)]

    def provenance(self):
        return {**super().provenance(), "weights": "first"}
"""
IMAGES = [Image.effect_noise((width, 20), 60) for width in range(20, 60)]
PROMPTS = [Prompt(f"wide {number}") for number in range(40)]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setenv("DGPO_REWARD_DEADLINE_S", "20")
    forget_servers()


@pytest.fixture
def width(tmp_path):
    (tmp_path / "width.py").write_text(WIDTH)
    return f"{tmp_path / 'width.py'}:Width"


def served(base, name="width", **rest) -> ServedReward:
    reward = load(parse_rewards([f"{base}/{name}"], **rest)[0])
    assert isinstance(reward, ServedReward)
    return reward


def values(scores):
    return [score.value for score in scores]


def test_the_spec_carries_the_servers_key_and_the_clients_weight(width):
    with serving(parse_rewards([width, "ocr[weights=v4,detect=false]", "imagestats"])) as server:
        texts = ["width=0.25", "ocr", "imagestats", "ocr@1[detect=false,weights=v4]"]
        specs = [spec for text in texts[:3] for spec in parse_rewards([f"{server.base}/{text}"])]
        keys = ["width@3", "ocr@1[detect=false,weights=v4]", "imagestats.dark@1", "imagestats.edges@1"]
        assert [spec.key for spec in specs] == [*keys, "imagestats.colours@1"]
        assert specs[0].train_weight == 0.25
        assert card_of(specs[0]).train_scale == 0.5
        assert parse_rewards([f"{server.base}/{texts[3]}"]) == [specs[1]]
        assert spec_from_json(specs[1].to_json()) == specs[1]
        facts = provenance_of(load(specs[0]))
        assert facts["source"] == f"{server.base}/width@3"
        assert (facts["server"], facts["weights"]) == ("dgpo test", "first")


def test_what_is_not_served_is_a_sentence(width):
    with serving(parse_rewards([width, "ocr", "ocr[weights=v4]"])) as server:
        for name, words in (
            ("widht", 'does not serve "widht". Did you mean "width@3"'),
            ("width@2", "serves width@3; ask for one of these"),
            ("ocr[detect=false]", "serves ocr@1, ocr@1"),
            ("pickscore", 'does not serve "pickscore"'),
        ):
            with pytest.raises(UsageError) as refusal:
                parse_rewards([f"{server.base}/{name}"])
            assert words in str(refusal.value)
        with pytest.raises(UsageError, match="what a server scores, it was started with"):
            parse_rewards([f"{server.base}/ocr@1"], sets=["ocr.engine=paddleocr"])


def test_an_unreachable_server_is_a_sentence_with_the_way_out():
    start = time.monotonic()
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:9: ConnectError.*dgpo serve --reward NAME"):
        parse_rewards(["http://127.0.0.1:9/ocr"])
    assert time.monotonic() - start < 6


def test_many_images_go_in_several_requests_and_come_back_in_order(width, monkeypatch):
    with serving(parse_rewards([width])) as server:
        reward = served(server.base)
        limits = {"images": 64, "request_bytes": 2**20 + 5000, "request_pixels": 2**26, "json_bytes": 2**20}
        for change in (
            {},
            {"images": 7},
            {"request_bytes": 2**20 + 1200},
            {"request_pixels": 1000},
            {"json_bytes": 1100},
        ):
            monkeypatch.setattr(reward, "limits", {**limits, **change})
            scores = reward.score(IMAGES, PROMPTS)
            assert [(score.value, score.detail) for score in scores] == [
                (width, f"wide {number}") for number, width in enumerate(range(20, 60))
            ]


def test_only_the_image_that_fails_fails(width):
    with serving(parse_rewards([width])) as server:
        prompts = [PROMPTS[0], Prompt("wide", {"fail": True}), PROMPTS[2]]
        result = score_batch({"it": served(server.base)}, IMAGES[:3], prompts).scores["it"]
        assert values(result) == [20, None, 22]
        assert result[1].reason == "ScoringError: cannot"


def test_an_image_beyond_the_servers_limits_fails_alone(width):
    from rewards.serving.limits import Limits

    with serving(parse_rewards([width]), limits=Limits(image_side=30)) as server:
        result = score_batch({"it": served(server.base)}, IMAGES[9:13], PROMPTS[:4]).scores["it"]
        assert values(result) == [29, 30, None, None]
        assert "31 x 20" in result[2].reason


def test_prompts_are_checked_by_the_server_in_few_requests(width):
    with serving(parse_rewards([width])) as server:
        reward = served(server.base)
        asked = []
        ask = reward.connection.ask
        reward.connection.ask = lambda *words, **rest: asked.append(words) or ask(*words, **rest)
        prompts = [Prompt(f"wide {number}") for number in range(1200)]
        reward.prepare_checks([*prompts, *prompts])
        for prompt in prompts:
            reward.check(prompt)
        assert len(asked) == 3
        with pytest.raises(UsageError, match="not about width: tall"):
            reward.check(Prompt("tall"))


def test_a_served_reward_is_checked_where_it_runs():
    from rewards.trust.check import check

    with serving(parse_rewards(["imagestats.edges"])) as server:
        (spec,) = parse_rewards([f"{server.base}/imagestats.edges"])
        (finding,) = check(spec, card_of(spec))
    assert (finding.result, "dgpo rewards check imagestats.edges" in finding.words) == ("not checked", True)


def test_the_token_is_needed_where_there_is_one(width, monkeypatch):
    with serving(parse_rewards([width]), token="0123456789abcdef") as server:
        with pytest.raises(SetupError, match="put that of the server into DGPO_REWARD_TOKEN"):
            parse_rewards([f"{server.base}/width"])
        forget_servers()
        monkeypatch.setenv("DGPO_REWARD_TOKEN", "0123456789abcdef")
        assert values(served(server.base).score(IMAGES[:1], PROMPTS[:1])) == [20]


def test_another_service_is_no_reward_server(tmp_path):
    import http.server

    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "rewards").write_text('{"rewards": []}')

    def handler(*words):
        return http.server.SimpleHTTPRequestHandler(*words, directory=str(tmp_path))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        with pytest.raises(SetupError, match="no reward server of dgpo"):
            parse_rewards([f"http://127.0.0.1:{server.server_port}/ocr"])
        server.shutdown()


def test_a_server_that_comes_back_with_other_weights_ends_the_run(width, monkeypatch):
    with serving(parse_rewards([width])) as server:
        spec = parse_rewards([f"{server.base}/width"])[0]
        reward = load(spec)
        reward.score(IMAGES[:1], PROMPTS[:1])
        port = server.port
        (behind,) = server.service.engine.rewards.values()
    facts = behind.provenance()
    monkeypatch.setattr(type(behind), "provenance", lambda self: {**facts, "weights": "second"})
    with serving(parse_rewards([width]), port=port):
        with pytest.raises(SetupError, match=r"other weights or versions.*second.*first"):
            score_batch({"it": reward}, IMAGES[:1], PROMPTS[:1])
        with pytest.raises(SetupError, match="other weights or versions"):  # a worker process that starts only now
            load(spec)
        assert values(served(f"http://127.0.0.1:{port}").score(IMAGES[:1], PROMPTS[:1])) == [20]


def test_a_server_that_is_the_same_again_is_no_change(width):
    with serving(parse_rewards([width])) as server:
        reward, port = served(server.base), server.port
        before = reward.score(IMAGES[:3], PROMPTS[:3])
    with serving(parse_rewards([width]), port=port):
        assert reward.score(IMAGES[:3], PROMPTS[:3]) == before


def test_a_server_that_stays_away_makes_failed_scores_once_it_is_certain(width, monkeypatch):
    monkeypatch.setenv("DGPO_REWARD_DEADLINE_S", "1")
    with serving(parse_rewards([width])) as server:
        reward = served(server.base)
        assert isinstance(reward, ServedReward)
        describe_server(server.base)
    start = time.monotonic()
    result = score_batch({"it": reward}, IMAGES, PROMPTS).scores["it"]
    assert values(result) == [None] * 40
    assert "no answer from http://127.0.0.1" in result[0].reason
    assert time.monotonic() - start < 4


def start_server(source, port):
    command = [sys.executable, "-m", "cli.main", "serve", "--reward", source, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, int(line.rpartition(":")[2].partition("/")[0])


def test_a_server_killed_while_it_scores_costs_no_score(tmp_path):
    """kill -9 in the middle of a request, twice; a worker process has the images scored all the same."""
    (tmp_path / "width.py").write_text(WIDTH.replace("pause = 0.0", "pause = 0.02"))
    source = f"{tmp_path / 'width.py'}:Width"
    process, port = start_server(source, 0)
    try:
        specs = parse_rewards([f"http://127.0.0.1:{port}/width"])
        with ScoringPool(specs, workers=1) as pool:
            pool.submit(IMAGES[:1], PROMPTS[:1]).result()
            for _ in range(2):
                futures = [pool.submit(IMAGES, PROMPTS) for _ in range(2)]
                time.sleep(0.4)
                process.send_signal(signal.SIGKILL)
                process.wait()
                assert not futures[1].done()
                process, _ = start_server(source, port)
                for future in futures:
                    scores = future.result().scores["width@3"]
                    assert [(score.value, score.detail) for score in scores] == [
                        (float(width), f"wide {number}") for number, width in enumerate(range(20, 60))
                    ]
    finally:
        process.kill()
        process.wait()
