"""A run is repeated from the config.yaml that it left, with nothing else said, through the real program."""

from pathlib import Path

import pytest
import yaml

from dgpo.compare_runs import compare_runs
from tests.cli.toys import SETTINGS, dgpo, metrics, prepare, train

SMALL = (
    "groups=2",
    "group_size=4",
    "sampling.steps=4",
    "dgpo.times=1",
    "dgpo.min_sigma=0",
    "evaluation.every=0",
    "samples.every=0",
    "checkpoint.every=1",
    "workers=0",
)
LEARNING = {"dgpo": {"times": 2, "min_sigma": 0.5}}


@pytest.fixture
def folder(tmp_path, monkeypatch, model_folder):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, model_folder, LEARNING)
    unnamed = {name: value for name, value in SETTINGS.items() if name != "prompts"}
    (tmp_path / "unnamed.yaml").write_text(yaml.safe_dump({**unnamed, "model": str(model_folder), **LEARNING}))
    return tmp_path


def repeat(folder, tmp_path_factory, monkeypatch, *words):
    """Give the config of the run in `folder` from a directory where no relative name means what it meant."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    dgpo("train", "--recipe", str(folder / "run/config.yaml"), "--output", str(folder / "again"), *words)


def assert_same_run(folder):
    assert compare_runs(folder / "run", folder / "again") == []
    assert metrics(folder / "run") == metrics(folder / "again")
    assert all(line["gradient_norm"] > 0 for line in metrics(folder / "run"))
    first, second = (yaml.safe_load((folder / run / "config.yaml").read_text()) for run in ("run", "again"))
    assert first == second


def test_its_config_alone_gives_the_same_bits(folder, tmp_path_factory, monkeypatch):
    """The embedded model, its own prompts and a reward of ours: nothing of it needs anybody's trust."""
    sets = [word for text in SMALL for word in ("--set", text)]
    dgpo("train", "--reward", "ocr", "--steps", "2", "--seed", "3", "--output", "run", *sets)
    repeat(folder, tmp_path_factory, monkeypatch)
    assert_same_run(folder)


def test_a_reward_in_a_file_needs_a_word_of_trust_beside_it(folder, tmp_path_factory, monkeypatch):
    train("run", "--seed", "3")
    repeat(folder, tmp_path_factory, monkeypatch, "--trust-run")
    assert_same_run(folder)


def test_prompts_come_from_the_data_folder_that_it_names(folder, tmp_path_factory, monkeypatch):
    """The list published with `ocr` is looked for where --data said, from whichever directory."""
    (folder / "data").mkdir()
    (folder / "data/ocr_train.txt").write_text('a red sign that says "cat"\na blue sign that says "dog"\n')
    mix = ["--reward", "ocr", "--reward", "bright.py:Bright"]
    dgpo("train", "--recipe", "unnamed.yaml", *mix, "--data", "data", "--output", "run")
    repeat(folder, tmp_path_factory, monkeypatch, "--trust-run")
    assert_same_run(folder)
    assert Path(yaml.safe_load((folder / "again/config.yaml").read_text())["data"]) == folder / "data"
