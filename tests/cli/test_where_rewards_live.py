"""A reward is built once, and asked everything, in the process that scores; the one that draws never holds it."""

import json
import os
from collections import Counter

import pytest
from typer.testing import CliRunner

from cli.commands import app

REWARD = """
import json, os
from pathlib import Path

from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

LOG = Path(os.environ["REWARD_LOG"])


def log(what):
    with LOG.open("a") as file:
        file.write(json.dumps([what, os.getpid()]) + "\\n")


class Spy(Reward):
    card = Card(name="spy", version=1, unit="share", bounds=(0, 1), higher_is_better=True, summary="mean brightness")

    def __init__(self, spec, card):
        super().__init__(spec, card)
        log("built")

    def check(self, prompt):
        log("checked")

    def verify(self):
        log("verified")

    def provenance(self):
        log("described")
        return super().provenance()

    def score(self, images, prompts):
        log("scored")
        return [Score(image.resize((1, 1)).convert("L").getpixel((0, 0)) / 255) for image in images]


class Second(Spy):
    card = Card(name="second", version=1, unit="share", bounds=(0, 1), higher_is_better=True, summary="the same")
"""


@pytest.fixture
def spied(tmp_path, monkeypatch):
    """Runs a command and returns what happened to the rewards, by process."""
    monkeypatch.setenv("REWARD_LOG", str(tmp_path / "log"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spy.py").write_text(REWARD)

    def run(*words):
        (tmp_path / "log").write_text("")
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        found = {}
        for what, process in map(json.loads, (tmp_path / "log").read_text().splitlines()):
            found.setdefault(process, Counter())[what] += 1
        return found

    return run


def test_training_builds_checks_tries_and_scores_in_one_process(spied, tmp_path):
    few = [
        word
        for setting in ("groups=2", "group_size=2", "sampling.steps=4", "dgpo.times=1")
        for word in ("--set", setting)
    ]
    measured = [
        "evaluation.suite=signs",
        "evaluation.every=1",
        "evaluation.prompts=2",
        "evaluation.rewards=[spy.py:Second]",
    ]
    more = [word for name in measured for word in ("--set", name)]
    found = spied("train", "--reward", "spy.py:Spy", *few, *more, "--steps", 1, "--output", tmp_path / "run")
    assert os.getpid() not in found
    ((_, events),) = found.items()
    assert events["built"] == 2  # one of each
    assert events["verified"] == 2
    assert min(events[what] for what in ("checked", "described", "scored")) > 0


def test_evaluating_builds_checks_and_scores_in_one_process(spied, tmp_path):
    (tmp_path / "prompts.txt").write_text("a sign\na cup\n")
    found = spied("eval", "--suite", "prompts.txt", "--model", "tiny", "--reward", "spy.py:Spy", "--output", "out")
    assert os.getpid() not in found
    ((_, events),) = found.items()
    assert events["built"] == 1
    assert min(events[what] for what in ("checked", "described", "scored")) > 0


def test_scoring_files_builds_and_scores_in_one_process(spied, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    found = spied("score", "white.png", "--prompt", "white", "--reward", "spy.py:Spy", "--output", "scores.csv")
    assert os.getpid() not in found
    ((_, events),) = found.items()
    assert events["built"] == 1
    assert min(events[what] for what in ("checked", "described", "scored")) > 0
