"""The current folder holds a module of every name there is, and none of them runs, in however many processes."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("dgpo", "rewards", "benchmarks", "cli")
TRAP = """
with open({caught!r}, "a") as file:
    file.write(__name__ + "\\n")
raise SystemExit("a module of the current folder was run")
"""
REWARD = """
import numpy
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Bright(Reward):
    card = Card(name="bright", version=1, unit="grey level", bounds=(0, 255), higher_is_better=True, summary="a mean")

    def score(self, images, prompts):
        return [Score(float(numpy.asarray(image).mean())) for image in images]
"""
SMALL = ("sampling.height=32", "sampling.width=64", "sampling.steps=2", "sampling.guidance=1", "sampling.text_length=0")
TRAINING = (
    *SMALL, "groups=2", "group_size=2", "dgpo.times=1", "dgpo.min_sigma=0", "evaluation.every=0", "watch.canaries=0",
    "training.dtype=fp32", "training.rank=2", "training.alpha=4", "workers=1",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path):
    """A trap for every module of Python and of the installed packages, and a `rewards.py` of the user's."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), *OURS, "sitecustomize"}:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(TRAP.format(caught=str(tmp_path / "caught")))
    (folder / "rewards.py").write_text(REWARD)
    (folder / "prompts.txt").write_text("a cat\na dog\na cow\n" * 6)
    return folder


@pytest.fixture
def dgpo(tmp_path, hostile):
    """The program as pip installs it, a script elsewhere, started in the hostile folder."""
    script = tmp_path / "bin" / "dgpo"
    script.parent.mkdir()
    script.write_text("from cli.main import main\n\nif __name__ == '__main__':\n    main()\n")

    def run(*words: str):
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        line = [sys.executable, str(script), *words]
        return subprocess.run(line, cwd=hostile, env=variables, capture_output=True, text=True, timeout=600)

    return run


def sets(names):
    return [word for name in names for word in ("--set", name)]


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_eval_runs_nothing_from_the_current_folder(dgpo, model_folder, tmp_path, processes):
    words = ["--suite", "prompts.txt", "--model", str(model_folder), "--reward", "rewards.py:Bright", "--workers", "1"]
    done = dgpo("eval", *words, *sets(SMALL), "--seeds", "11", "--output", "out", "--num-processes", processes)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "caught").exists(), (tmp_path / "caught").read_text()


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_train_runs_nothing_from_the_current_folder(dgpo, model_folder, tmp_path, processes):
    words = ["--recipe", "tiny", "--model", str(model_folder), "--prompts", "prompts.txt", "--steps", "1"]
    words += ["--reward", "rewards.py:Bright", "--output", "out", "--num-processes", processes]
    done = dgpo("train", *words, *sets(TRAINING))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "caught").exists(), (tmp_path / "caught").read_text()


def test_the_trap_is_one(hostile, tmp_path):
    """A worker process that Python starts by itself, from a script elsewhere, does run what is there."""
    script = tmp_path / "start.py"
    script.write_text("from multiprocessing import get_context\n\nget_context('spawn').Process().start()\n")
    subprocess.run([sys.executable, str(script)], cwd=hostile, capture_output=True, timeout=60)
    assert (tmp_path / "caught").exists()
