"""A reward whose other methods are broken, or that hangs, in the real program: a sentence, the right code, an end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from rewards.prompt import Prompt

ODD = Path(__file__).resolve().parents[1] / "rewards" / "misbehaving.py"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "own.txt").write_text("a cat\na dog\n")
    (tmp_path / "images").mkdir()
    for text in ("a cat", "a dog"):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{Prompt(text).id}_0.png")
    return tmp_path


COMMANDS = {
    "train --dry-run": ["train", "--prompts", "own.txt", "--set", "evaluation.every=0", "--dry-run"],
    "eval": ["eval", "--suite", "own.txt", "--images", "images"],
    "score": ["score", "--prompt", "x", "--images", "images", "--output", "s.csv"],
}


@pytest.mark.parametrize(
    ("command", "at"),
    [("train --dry-run", "check"), *((command, at) for command in ("eval", "score") for at in ("check", "provenance"))],
)
def test_one_sentence_with_the_reward_its_file_and_the_line(program, place, command, at):
    done = program(*COMMANDS[command], "--reward", f"{ODD}:Odd[how=sys.exit,at={at}]")
    assert done.returncode == 3, done.stderr
    assert f"The reward odd@1[at={at},how=sys.exit] broke off: it called sys.exit(0) (misbe" in done.stderr
    assert f'  File "{ODD}", line ' in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "s.csv").exists()


@pytest.mark.parametrize("at", ["score", "check", "provenance"])
def test_what_it_prints_in_this_process_is_no_part_of_the_answer(program, place, at):
    """Nor what is printed below Python."""
    words = [*COMMANDS["score"][:-2], "--reward", f"{ODD}:Odd[how=print,at={at}]", "--workers", "0", "--json"]
    done = program(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 2
    assert "hello from below" in done.stderr


def test_a_deadline_that_nothing_would_keep_is_refused(program, place):
    for words in (["score", "a.png", "--workers", "0"], ["serve"], ["eval", "--suite", "signs", "--workers", "0"]):
        done = program(*words, "--reward", "imagestats", "--reward-seconds", "5")
        assert done.returncode == 2
        assert "with --workers 0 there is none" in done.stderr


@pytest.mark.parametrize("command", ["eval", "score"])
def test_ctrl_c_ends_a_command_whose_reward_hangs(place, command):
    """At once, with a word about it, and with the processes that it has started."""
    words = [sys.executable, "-m", "cli.main", *COMMANDS[command], "--reward", f"{ODD}:Odd[how=loud and hang]"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, cwd=place) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) != "hanging\n":
            assert line
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; give the same command again to go on" in told
    assert "Traceback" not in told
    assert psutil.wait_procs(children, timeout=10)[1] == []
