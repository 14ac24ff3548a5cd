"""Cost by hand, and measured on the embedded model beside what a run really takes."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cli.commands import app
from dgpo.config import check_config
from dgpo.cost import Measured, describe_estimate, describe_spent, estimate

# Seconds per image: one guided pass of 10 steps counts twice.
SECONDS = Measured(draw=0.01, compare=0.02, learn=0.05, decode=0.1, score=0.5, images=4)


def config_of(**more):
    values = {"groups": 2, "group_size": 8, "rollout": {"micro_batch": 4}, "optimizer": {"micro_batch": 8}}
    return check_config({**values, "steps": 100, "sampling": {"steps": 10, "guidance": 4.5}, **more}, "here")


def guided(guidance):
    return 2 if guidance > 1 else 1


def test_an_iteration_by_hand():
    """16 images: 20 F each to draw; 4 old, 4 reference, 4 current with backward; 8 s of scoring, of which the batches
    that are drawn after it hide three quarters of the drawing."""
    found = estimate(SECONDS, config_of(), guided, 1)
    assert found.draw == pytest.approx(16 * 20 * 0.01)
    assert found.decode == pytest.approx(1.6)
    assert found.score == pytest.approx(8 - 0.75 * (3.2 + 1.6))
    assert found.learn == pytest.approx(16 * (8 * 0.02 + 4 * 0.05))
    assert (found.evaluate, found.dominates) == (0, "learning")
    assert found.seconds == pytest.approx(3.2 + 1.6 + 4.4 + 5.76)


def test_fast_scores_are_waited_for_as_long_as_the_last_batch_takes():
    quick = replace(SECONDS, score=0.01)
    assert estimate(quick, config_of(), guided, 1).score == pytest.approx(4 * 0.01)
    assert estimate(quick, config_of(), guided, 4).score == pytest.approx(4 * 0.01)


def test_recorded_images_are_neither_drawn_nor_scored():
    found = estimate(SECONDS, config_of(source={"kind": "recorded", "folder": "x"}), guided, 1)
    assert (found.draw, found.decode, found.score) == (0, 0, 0)
    assert found.learn > 0


def test_evaluations_are_a_share_of_every_iteration():
    """32 prompts on 2 processes, 20 steps without guidance: 0.2 + 0.1 s each to draw, less than scoring takes."""
    evaluation = {"every": 10, "prompts": 32, "suite": "ocr", "steps": 20, "guidance": 1.0}
    found = estimate(SECONDS, config_of(evaluation=evaluation), guided, 2)
    assert found.evaluate == pytest.approx(16 * 0.5 / 10)


def test_what_is_said():
    config = config_of(steps=1000)
    first, second, third = describe_estimate(SECONDS, estimate(SECONDS, config, guided, 2), config, "a GPU", 2)
    assert "timed on a GPU, per image: a pass in drawing 10 ms" in first
    assert "drawing 1.6 s, decoding 800 ms, waiting for scores" in second
    assert "1000 iterations take about" in third
    assert "hours on each of 2 devices" in third


def test_what_was_spent():
    lines = [{"step": 0, "evaluation": {}}] + [{"seconds": {"draw": 1.0 * n, "learn": 2.0}} for n in (1, 3)]
    spent = describe_spent(lines)
    assert spent == {"iterations": 2, "hours": 8 / 3600, "seconds_per_iteration": {"draw": 2.0, "learn": 2.0}}
    assert describe_spent([]) == {}


SETTINGS = ("groups=1", "group_size=2", "workers=0", "evaluation.every=0", "training.dtype=fp32")
WORDS = ("train", "--reward", "ocr", "--model", "tiny", *(word for one in SETTINGS for word in ("--set", one)))


def test_the_embedded_model_is_timed_and_a_run_says_what_it_took(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dgpo.cost.SECONDS", 1.0)
    done = CliRunner().invoke(app, [*WORDS, "--dry-run", "--measure", "--output", "run"])
    assert done.exit_code == 0, done.stderr
    assert "so an iteration takes about" in done.stderr
    assert not (tmp_path / "run").exists()
    done = CliRunner().invoke(
        app, [*WORDS, "--set", "sampling.steps=4", "--set", "dgpo.times=1", "--steps", "2", "--output", "run"]
    )
    assert done.exit_code == 0, done.stderr
    spent = json.loads((tmp_path / "run/run.json").read_text())["spent"]
    assert spent["iterations"] == 2
    assert set(spent["seconds_per_iteration"]) == {"draw", "score", "learn"}


@pytest.mark.parametrize(
    ("more", "said"), [((), "--measure is for --dry-run"), (("--dry-run", "--gpu-memory", "80"), "give one of")]
)
def test_it_times_nothing_else(more, said):
    done = CliRunner().invoke(app, [*WORDS, "--measure", *more])
    assert done.exit_code == 2
    assert said in done.stderr
