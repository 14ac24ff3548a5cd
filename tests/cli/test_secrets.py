"""A token or key is in no message, log or record, however it was given, and in no process list."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from rewards.parse import parse_rewards
from tests.rewards.judges import Script, saying, serve
from tests.rewards.served import serving

SECRET = "tell-nobody-0123456789abcdef"
KEY = "nor-this-0123456789abcdef"
ADDRESS = f"https://me:{SECRET}@127.0.0.1:9/x"
HOST = "127.0.0.1:9"  # where nobody answers
OCR = ["--reward", f"http://{HOST}/ocr"]
JUDGED = ["--reward", "unifiedreward", "--reward-set"]
GIVEN = {
    "a token with a newline": ({"DGPO_REWARD_TOKEN": f"{SECRET}\n"}, OCR, "No reward server"),
    "a token with a space": ({"DGPO_REWARD_TOKEN": f"{SECRET} {SECRET}"}, OCR, "more than a"),
    "a token in letters": ({"DGPO_REWARD_TOKEN": f"{SECRET}é"}, OCR, "outside ASCII"),
    "a token with a return": ({"DGPO_REWARD_TOKEN": f"{SECRET}\rX"}, OCR, "a line break"),
    "in an address": ({}, ["--reward", f"http://me:{SECRET}@{HOST}/ocr"], "never into the address"),
    "behind an address": ({}, ["--reward", f"http://{HOST}/ocr?key={SECRET}"], "never into the address"),
    "a key with a return": (
        {"DGPO_JUDGE_KEY": f"{SECRET}\rX"},
        [*JUDGED, f"unifiedreward.judge=http://{HOST}/v1"],
        "DGPO_JUDGE_KEY holds more than a token",
    ),
    "in a judge's address": (
        {},
        [*JUDGED, f"unifiedreward.judge=http://me:{SECRET}@{HOST}/v1"],
        "put the key into DGPO_JUDGE_KEY",
    ),
    "behind a judge's address": (
        {},
        [*JUDGED, f"unifiedreward.judge=http://{HOST}/v1?key={SECRET}"],
        "A key goes into DGPO_JUDGE_KEY",
    ),
    "as an option": ({}, [*JUDGED, f"unifiedreward.key={SECRET}"], 'no option "key"'),
}


TRAINED = {
    "as an odd list": ["--set", f"rewards=[http://{HOST}/x?key={SECRET}]"],
    "as no list": ["--set", f"rewards=http://me:{SECRET}@{HOST}/x"],
    "as a model": ["--reward", "ocr", "--model", f"https://me:{SECRET}@huggingface.co/a/b"],
    "in a recipe": ["--recipe", "mine.yaml"],
    "in a recipe that is trusted": ["--recipe", "mine.yaml", "--trust-run"],
}


@pytest.mark.parametrize("how", TRAINED)
def test_in_an_address_is_not_shown_by_a_training(program, tmp_path, how):
    (tmp_path / "mine.yaml").write_text(f"rewards: ['http://me:{SECRET.upper()}@{HOST}/x']\n")
    done = program("train", *TRAINED[how])
    assert done.returncode == 2
    assert SECRET not in (done.stdout + done.stderr).lower()
    assert "://" in done.stderr


@pytest.mark.parametrize("how", GIVEN)
def test_is_shown_and_recorded_nowhere(program, tmp_path, how):
    environment, words, sentence = GIVEN[how]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    environment = {"DGPO_REWARD_DEADLINE_S": "0.3", **environment}
    done = program("score", *words, "--prompt", 'a "word"', "--output", "out.csv", "a.png", **environment)
    assert sentence in done.stderr
    assert done.returncode in (2, 3)
    assert SECRET not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_server_keeps_its_token_to_itself_and_says_when_the_file_does_not(tmp_path):
    """Asked with the token, and with another; the file can be read by others."""
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    file.chmod(0o644)
    root = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\nfrom cli.main import main; main()"
    words = [sys.executable, "-P", "-c", code]
    serve = [*words, "serve", "--reward", "imagestats.dark", "--port", "0", "--workers", "1", "--token-file", str(file)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with subprocess.Popen(serve, **pipes) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split("'")[1]
        said = ""
        for token, code in ((SECRET, 0), (SECRET[::-1], 3)):
            environment = {**os.environ, "DGPO_REWARD_TOKEN": token, "DGPO_REWARD_DEADLINE_S": "60"}
            score = [*words, "score", "--reward", address, "--output", f"{code}.csv", "a.png"]
            with subprocess.Popen(score, env=environment, **pipes) as client:
                while client.poll() is None:
                    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
                    assert not [one for one in processes if one.is_running() and SECRET in _words(one)]
                    time.sleep(0.2)
                said += "".join(client.communicate())
                assert client.returncode == code
        server.terminate()
        said += "".join(server.communicate(timeout=60))
    assert f"{file} can be read by other users" in said
    assert "refuses the token" in said
    assert SECRET not in said
    assert SECRET[::-1] not in said
    rest = [path for path in tmp_path.rglob("*") if path.is_file() and path != file]
    assert not [path for path in rest if SECRET.encode() in path.read_bytes()]


def _words(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_training_and_an_evaluation_that_used_a_token_and_a_key_recorded_neither(
    called, model_folder, tmp_path, monkeypatch
):
    """The reward behind a server that wants the token; the judge behind one that is sent the key."""
    (tmp_path / "own.txt").write_text("a cat\na dog\n")
    small = {"sampling.height": 32, "sampling.width": 64, "sampling.steps": 2, "sampling.text_length": 0}
    once = {"dgpo.times": 1, "dgpo.min_sigma": 0, "groups": 1, "group_size": 2, "training.dtype": "fp32"}
    once |= {"evaluation.every": 0, "samples.every": 0}
    drawing = ["--model", str(model_folder), *_sets(small)]
    script = Script(lambda number, body: saying("Final Score: 4"))
    odd = Path(__file__).resolve().parents[1] / "rewards" / "misbehaving.py"
    with serving(parse_rewards([f"{odd}:Odd"]), token=SECRET) as server, serve(script) as judge:
        rewards = ["--reward", f"{server.base}/odd", "--reward", "unifiedreward"]
        rewards += ["--reward-set", f"unifiedreward.judge={judge}/v1", "--reward-set", "unifiedreward.model=scripted"]
        monkeypatch.setenv("DGPO_REWARD_TOKEN", SECRET)
        monkeypatch.setenv("DGPO_JUDGE_KEY", KEY)
        words = ["--steps", "1", "--recipe", "tiny", *drawing, *_sets(once), "--prompts", "own.txt", "--output", "run"]
        trained = called("train", *words, *rewards)
        measured = called("eval", "--suite", "own.txt", *drawing, *rewards, "--output", "out", "--json")
    for done in (trained, measured):
        assert done.returncode == 0, done.stderr
    assert {headers["Authorization"] for headers in script.headers} == {f"Bearer {KEY}"}
    assert (tmp_path / "run" / "metrics.jsonl").exists()
    assert (tmp_path / "out" / "scores.csv").exists()
    said = "".join(done.stdout + done.stderr for done in (trained, measured))
    for secret in (SECRET, KEY):
        assert secret not in said
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "--suite", "signs", "--model", ADDRESS, "--reward", "imagestats"),
        ("eval", "--suite", ADDRESS, "--reward", "imagestats"),
        ("eval", "--suite", "signs", "--images", ADDRESS, "--reward", "imagestats"),
        ("sample", "--model", ADDRESS, "--prompt", "x"),
        ("train", "--reward", "ocr", "--model", ADDRESS, "--recipe", "tiny", "--dry-run"),
        ("train", "--reward", "ocr", "--prompts", ADDRESS, "--dry-run"),
        ("train", "--reward", "ocr", "--recipe", ADDRESS, "--dry-run"),
        ("score", "--reward", "imagestats", ADDRESS),
        ("compare", ADDRESS, ADDRESS),
    ],
    ids=" ".join,
)
def test_an_address_where_none_is_taken_is_refused_without_its_password(program, words):
    done = program(*words)
    assert done.returncode in (2, 3)
    assert SECRET not in done.stdout + done.stderr, done.stderr


def _sets(settings):
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
