"""`dgpo serve` as a process: what it says, whom it lets in, how it ends, and a training whose server is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef"
ODD = ROOT / "tests" / "rewards" / "misbehaving.py"
SETS = ("groups=2", "group_size=2", "sampling.steps=2", "dgpo.times=1", "dgpo.min_sigma=0", "evaluation.every=0",
        "samples.every=0", "checkpoint.every=1", "workers=1")  # fmt: skip


class Serving:
    """The running process, the lines it printed, and what it says on stderr."""

    def __init__(self, process: subprocess.Popen, rewards: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process, self.log = process, []
        lines = [process.stdout.readline().strip() for _ in range(rewards)]
        self.texts = [line.partition("'")[2].rstrip("'") for line in lines]
        self.base = self.texts[0].rpartition("/")[0]
        self.port = int(self.base.rpartition(":")[2])
        threading.Thread(target=self.log.extend, args=(process.stderr,), daemon=True).start()


@contextmanager
def served(*arguments: str, rewards: int = 1, port: int = 0, **environment: str) -> Iterator[Serving]:
    words = [sys.executable, "-m", "cli.main", "serve", "--port", str(port), *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    try:
        yield Serving(process, rewards)
    finally:
        process.kill()
        process.wait()


def test_it_says_what_a_client_gives_and_scores_as_this_machine_does(program, tmp_path):
    Image.effect_noise((64, 48), 60).save(tmp_path / "a.png")
    with served("--reward", "imagestats.edges", "--reward", "imagestats.dark", rewards=2) as server:
        words = [word for text in server.texts for word in ("--reward", text)]
        there = program("score", *words, "--json", "a.png")
        here = program("score", "--reward", "imagestats.edges", "--reward", "imagestats.dark", "--json", "a.png")
        shown = program("rewards", "show", server.texts[0])
    assert there.returncode == here.returncode == 0, there.stderr
    scores = [[(row["reward"], row["score"]) for row in json.loads(run.stdout)["scores"]] for run in (there, here)]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 2
    facts = json.loads(there.stdout)["rewards"][0]
    assert facts["provenance"]["source"] == server.texts[0]
    assert facts["provenance"]["server"].startswith("dgpo ")
    assert "mean Sobel gradient of luma" in shown.stdout


def test_a_reward_that_hangs_is_ended_at_the_deadline(program, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    words = ["--reward", f"{ODD}:Odd[how=hang]", "--workers", "1", "--reward-seconds", "1"]
    with served(*words) as server:
        done = program("score", "--reward", server.texts[0], "--prompt", "x", "--json", "black.png")
    assert done.returncode == 5, done.stderr
    reason = "no scores within 1 s (reward_seconds), so the scoring process was ended"
    assert json.loads(done.stdout)["reasons"] == {reason: 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number):
    with served("--reward", "imagestats.edges") as server:
        until(lambda: any("ready: imagestats.edges@1" in line for line in server.log))
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        until(lambda: "dgpo: stopped\n" in server.log)


def test_a_token_is_read_from_the_environment_and_never_shown():
    with served("--reward", "imagestats.edges", "--host", "127.0.0.1", DGPO_SERVE_TOKEN=TOKEN) as server:
        until(lambda: any("ready" in line for line in server.log))
        url = f"{server.base}/v1/rewards"
        assert httpx.get(url, headers={"X-Request-ID": "mine"}).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        until(lambda: any("id=mine 127.0.0.1 GET '/v1/rewards' 401" in line for line in server.log))
        assert not any(TOKEN in line for line in server.log)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Say what to serve: --reward NAME"),
        (("--reward", "orc"), 2, 'Did you mean "ocr"'),
        (("--reward", "ocr", "--host", "0.0.0.0"), 2, "openssl rand -hex 24"),
        (("--reward", "ocr", "--limit", "image=1"), 2, 'Did you mean "images"'),
        (("--reward", "ocr", "--token-file", "none"), 2, "cannot be read"),
        (("--reward", "pickscore", "--weights", "pickscore=."), 3, "pickscore@1"),
    ],
)
def test_wrong_use_is_a_sentence(program, arguments, code, said):
    done = program("serve", "--port", "0", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_a_sentence(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = program("serve", "--reward", "imagestats.edges", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 3
    assert "choose another --port" in done.stderr


def test_without_the_libraries_it_says_how_to_get_them(program, without):
    done = program("serve", "--reward", "imagestats.edges", "--port", "0", before=without("uvicorn", "fastapi"))
    assert done.returncode == 3
    assert "pip install 'dgpo[serve]'" in done.stderr
    done = program("score", "--reward", "http://127.0.0.1:9/ocr", "--prompt", "a", "a.png", before=without("httpx"))
    assert done.returncode == 3
    assert "pip install 'dgpo[remote]'" in done.stderr


@pytest.mark.slow
def test_a_server_killed_while_a_model_trains_costs_no_iteration(tmp_path):
    """Killed without warning and started again: the same weights as by a training that scored here, bit by bit."""
    steps = 5
    alone = start_training(tmp_path / "alone", "ocr", steps)
    assert alone.wait(300) == 0, alone.communicate()[1]
    with served("--reward", "ocr") as server:
        training = start_training(tmp_path / "served", server.texts[0], steps)
        metrics = tmp_path / "served" / "metrics.jsonl"
        until(lambda: metrics.is_file() and metrics.read_text().count("\n") >= 2, 200)
        server.process.kill()
        server.process.wait()
        time.sleep(1.0)
        done = metrics.read_text().count("\n")
        assert training.poll() is None
        assert done < steps
        with served("--reward", "ocr", port=server.port):
            assert training.wait(300) == 0, training.communicate()[1]
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["failed"] for row in rows] == [0] * steps
    weights = [
        load_file(tmp_path / name / "checkpoints" / f"step-{steps:06d}" / "trainer.safetensors")
        for name in ("alone", "served")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def start_training(folder: Path, reward: str, steps: int) -> subprocess.Popen:
    words = [
        sys.executable,
        "-m",
        "cli.main",
        "train",
        "--reward",
        reward,
        "--output",
        str(folder),
        "--steps",
        str(steps),
    ]
    words += [word for text in SETS for word in ("--set", text)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=variables)


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
