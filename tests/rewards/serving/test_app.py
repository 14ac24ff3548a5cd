"""The server on a real socket, asked with a plain HTTP client: answers, statuses, ids, log, metrics, the way down."""

import json
import logging
import socket
import threading
from pathlib import Path

import httpx
import pytest
from PIL import Image

from rewards.parse import parse_rewards
from rewards.plugins import load_source
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.remote.wire import encode, mark_of
from rewards.serving.app import Service
from rewards.serving.engine import Engine
from rewards.serving.limits import Limits
from rewards.serving.run import bind, make_server
from tests.rewards.served import serving, wait_for

TOKEN = "0123456789abcdef"
IMAGES = [Image.effect_noise((20 + number, 20), 60) for number in range(4)]
SLOW = """
import threading
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Slow(Reward):
    card = Card(name="slow", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="waits")
    go = threading.Event()
    begun = threading.Semaphore(0)

    def check(self, prompt):
        if prompt.text == "odd":
            raise KeyError("odd")

    def score(self, images, prompts):
        if images[0].size != (64, 64):  # not the first picture of all
            self.begun.release()
            self.go.wait(20)
        if prompts[0].text == "bug":
            raise TypeError("a bug")
        return [Score(0.5)] * len(images)
"""


def ask(base, reward, prompts, images, **headers):
    fields = {"reward": reward, "prompts": [{"text": prompt} for prompt in prompts]}
    files = [("request", (None, json.dumps(fields)))]
    files += [("image", ("x", encode(image))) for image in images]
    return httpx.post(base + "/v1/score", files=files, headers=headers, timeout=30, trust_env=False)


@pytest.fixture(scope="module")
def server():
    with serving(parse_rewards(["imagestats", "ocr", "ocr[weights=v4]"])) as running:
        yield running


@pytest.fixture
def slow(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    specs = parse_rewards([f"{tmp_path / 'slow.py'}:Slow"])
    assert specs[0].source is not None
    kind, _ = load_source(specs[0].source, ())
    yield specs, kind
    kind.go.set()


def test_an_answer_says_what_scored_and_about_what(server):
    response = ask(server.base, "imagestats.edges@1", ["a", "b"], IMAGES[:2])
    answer = response.json()
    expected = score_batch({"it": load(parse_rewards(["imagestats.edges"])[0])}, IMAGES[:2], [Prompt("a")] * 2).scores[
        "it"
    ]
    assert [score["value"] for score in answer["scores"]] == [score.value for score in expected]
    assert [score["detail"] for score in answer["scores"]] == [score.detail for score in expected]
    assert [score["prompt"] for score in answer["scores"]] == [Prompt("a").id, Prompt("b").id]
    assert [score["image"] for score in answer["scores"]] == [mark_of(encode(image)) for image in IMAGES[:2]]
    assert (answer["key"], answer["server_version"]) == ("imagestats.edges@1", "dgpo test")
    assert answer["provenance"]["weights"] == "none"
    assert 0 < answer["seconds"] < 10
    assert response.headers["x-request-id"] == answer["request_id"]


def test_the_cards_are_told_with_the_limits(server):
    answer = httpx.get(server.base + "/v1/rewards").json()
    assert [one["key"] for one in answer["rewards"]] == list(server.service.engine.rewards)
    assert answer["rewards"][1]["card"]["unit"] == "mean Sobel gradient of luma"
    assert answer["limits"]["images"] == 64


@pytest.mark.parametrize(
    ("reward", "status"),
    [("imagestats.edges", 200), ("nobody", 404), ("imagestats.edges@2", 409), ("ocr", 409), ("ocr@1", 200)],
)
def test_a_reward_is_named_by_key_or_by_a_name_that_only_one_has(server, reward, status):
    response = ask(server.base, reward, ['"a"'], IMAGES[:1])
    assert response.status_code == status
    if status == 409:
        assert "ask for that" in response.json()["error"]


def test_prompts_that_cannot_be_judged_are_refused_before_they_are_scored(server):
    response = ask(server.base, "ocr@1", ['"a"', "no quotes"], IMAGES[:2])
    assert response.status_code == 422
    assert "prompt 1" in response.json()["error"]
    checked = httpx.post(
        server.base + "/v1/check", json={"reward": "ocr@1", "prompts": [{"text": '"a"'}, {"text": "b"}]}
    ).json()
    assert checked["problems"][0] is None
    assert "double quotes" in checked["problems"][1]


def test_a_request_keeps_its_id_unless_it_is_a_strange_one(server):
    get = server.base + "/health"
    assert httpx.get(get, headers={"X-Request-ID": "run-7.step_3"}).headers["x-request-id"] == "run-7.step_3"
    for strange in ("a b", "x" * 65, 'a"b'):
        assert httpx.get(get, headers={"X-Request-ID": strange}).headers["x-request-id"] != strange


def test_every_request_has_one_line_in_the_log(server, caplog):
    with caplog.at_level(logging.INFO, "rewards.serving.app"):
        ask(server.base, "imagestats.edges", ["a"], IMAGES[:1], **{"X-Request-ID": "one"})
        ask(server.base, "nobody", ["a\nb"], IMAGES[:1], **{"X-Request-ID": "two"})
        httpx.get(server.base + "/no%0Aline", headers={"X-Request-ID": "three"})
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0].startswith("id=one 127.0.0.1 POST '/v1/score' 200 ")
    assert "reward=imagestats.edges@1 images=1 failed=0 batch=1" in lines[0]
    assert lines[1].startswith("id=two 127.0.0.1 POST '/v1/score' 404 ")
    assert all("\n" not in line for line in lines)


def test_other_paths_and_methods_say_what_there_is(server):
    for response in (
        httpx.get(server.base + "/v1/score"),
        httpx.delete(server.base + "/"),
        httpx.get(server.base + "/docs"),
    ):
        assert response.status_code == 404
        assert "POST /v1/score" in response.json()["error"]


def test_metrics_count_requests_images_and_batches():
    with serving(parse_rewards(["imagestats.edges"])) as running:
        ask(running.base, "imagestats.edges", ["a"] * 3, IMAGES[:3])
        ask(running.base, "nobody", ["a"], IMAGES[:1])
        text = httpx.get(running.base + "/metrics").text
    for line in (
        'dgpo_requests_total{path="/v1/score",status="200"} 1.0',
        'dgpo_requests_total{path="/v1/score",status="404"} 1.0',
        'dgpo_images_total{reward="imagestats.edges@1"} 3.0',
        'dgpo_failed_images_total{reward="imagestats.edges@1"} 0.0',
        'dgpo_batch_images_count{reward="imagestats.edges@1"} 1.0',
        'dgpo_batch_images_sum{reward="imagestats.edges@1"} 3.0',
        'dgpo_request_seconds_count{path="/v1/score"} 2.0',
        "dgpo_queue_images 0.0",
        "dgpo_held_bytes 0.0",
    ):
        assert line in text.splitlines()


def test_with_a_token_only_health_is_open():
    with serving(parse_rewards(["imagestats.edges"]), token=TOKEN) as running:
        assert httpx.get(running.base + "/health").status_code == 200
        for path in ("/v1/rewards", "/metrics", "/other"):
            assert httpx.get(running.base + path).status_code == 401
        assert ask(running.base, "imagestats.edges", ["a"], IMAGES[:1]).status_code == 401
        response = ask(running.base, "imagestats.edges", ["a"], IMAGES[:1], Authorization=f"Bearer {TOKEN}")
        assert response.status_code == 200


def test_requests_of_several_clients_become_one_batch_and_a_full_queue_says_when_to_come_back(slow):
    specs, kind = slow
    with serving(specs, limits=Limits(queue_images=4)) as running:
        answers = []

        def call(count):
            answers.append(ask(running.base, "slow", ["a"] * count, IMAGES[:count]))

        clients = [threading.Thread(target=call, args=(count,)) for count in (1, 2, 2)]
        clients[0].start()
        kind.begun.acquire(timeout=20)
        for client in clients[1:]:
            client.start()
        wait_for(lambda: running.service.batchers["slow@1"].waiting == 4)
        busy = ask(running.base, "slow", ["a"], IMAGES[:1])
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
        kind.go.set()
        for client in clients:
            client.join(20)
        assert [answer.status_code for answer in answers] == [200] * 3
        sums = [line for line in running.service.metrics.render().decode().splitlines() if "batch_images" in line]
        assert 'dgpo_batch_images_bucket{le="4.0",reward="slow@1"} 2.0' in sums
        assert 'dgpo_batch_images_bucket{le="2.0",reward="slow@1"} 1.0' in sums


def test_stopping_answers_what_is_queued_and_refuses_what_is_new(slow):
    specs, kind = slow
    answers = []
    with serving(specs) as running:
        client = threading.Thread(target=lambda: answers.append(ask(running.base, "slow", ["a"], IMAGES[:1])))
        client.start()
        kind.begun.acquire(timeout=20)
        running.service.stop()
        refused = ask(running.base, "slow", ["a"], IMAGES[:1])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert httpx.get(running.base + "/health").json()["status"] == "stopping"
        threading.Timer(0.3, kind.go.set).start()
    client.join(20)
    assert [answer.status_code for answer in answers] == [200]


def test_a_bug_is_a_500_for_the_one_who_ran_into_it_and_the_server_goes_on(slow):
    specs, kind = slow
    kind.go.set()
    with serving(specs) as running:
        assert ask(running.base, "slow", ["bug"], IMAGES[:1]).status_code == 500
        assert ask(running.base, "slow", ["a"], IMAGES[:1]).status_code == 200


def test_what_a_client_that_left_had_asked_for_is_not_scored(slow):
    specs, kind = slow
    with serving(specs) as running:
        first = threading.Thread(target=ask, args=(running.base, "slow", ["a"], IMAGES[:1]))
        first.start()
        kind.begun.acquire(timeout=20)
        alone = running.service.held.bytes
        fields, image = '{"reward": "slow", "prompts": [{"text": "a"}]}', encode(IMAGES[0])
        files = [("request", (None, fields)), ("image", ("x", image))]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(running.base + "/v1/score", files=files, timeout=0.5, trust_env=False)
        wait_for(lambda: running.service.held.bytes == alone)
        kind.go.set()
        first.join(20)
    assert alone > 0
    assert not kind.begun.acquire(blocking=False)


BROKEN = Path(__file__).with_name("broken.py")
ODD = Path(__file__).parents[1] / "misbehaving.py"


def test_a_reward_that_hangs_holds_up_no_other_and_not_the_end():
    specs = parse_rewards([f"{ODD}:Odd[how=hang]", "imagestats.dark"])
    black = [Image.new("RGB", (8, 8))]
    with serving(specs, workers=1, limits=Limits(queue_images=1)) as running:
        asking = threading.Thread(target=ask, args=(running.base, "odd", ["a"], black), daemon=True)
        asking.start()
        wait_for(lambda: 'images_sum{reward="odd@1[how=hang]"} 1.0' in running.service.metrics.render().decode())
        for _ in range(3):
            assert ask(running.base, "imagestats.dark", ["a"], black).status_code == 200


def test_a_check_that_breaks_off_is_an_error_of_the_server(slow):
    specs, _ = slow
    with serving(specs) as running:
        responses = [
            ask(running.base, "slow", ["odd"], IMAGES[:1]),
            httpx.post(running.base + "/v1/check", json={"reward": "slow", "prompts": [{"text": "odd"}]}),
        ]
    for response in responses:
        assert response.status_code == 500
        assert response.json()["error"].startswith("The reward slow@1 broke off: KeyError: 'odd' (slow.py, line ")


def test_a_request_that_only_announces_holds_nothing():
    limits = Limits(request_bytes=2000, held_bytes=4000)
    with serving(parse_rewards(["imagestats.dark"]), limits=limits) as running:
        head = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1999\r\n"
        silent = [socket.create_connection(running.address) for _ in range(16)]
        for connection in silent:
            connection.sendall(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n")
        wait_for(lambda: running.service.held.bytes == 16 * 5)
        assert ask(running.base, "imagestats.dark", ["a"], [Image.new("RGB", (4, 4))]).status_code == 200
        for connection in silent:
            connection.close()


def test_a_broken_reward_is_told_and_ends_the_server():
    service = Service(Engine(parse_rewards([f"{BROKEN}:Broken"])), version="test")
    server = make_server(service)
    server.run([bind("127.0.0.1", 0)])
    assert "The reward broken@1 broke off: it called sys.exit(0)" in str(service.broken)
