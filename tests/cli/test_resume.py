"""The parts of one run are made from the same: what was replaced in between is refused, what was moved is not."""

import json
import shutil

import pytest

from tests.cli.test_train import BRIGHT, SMALL

SETS = [word for text in (*SMALL, "training.dtype=fp32", "watch.canaries=0") for word in ("--set", text)]


@pytest.fixture
def train(called, model_folder, tmp_path):
    (tmp_path / "bright.py").write_text(BRIGHT)
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    shutil.copytree(model_folder, tmp_path / "model")

    def run(*more, steps=1, model="model", prompts="prompts.txt"):
        words = ["train", "--recipe", "tiny", "--model", model, "--prompts", prompts, "--reward", "bright.py:Bright"]
        return called(*words, "--output", "run", "--steps", str(steps), *SETS, *more)

    return run


def test_a_run_goes_on_from_what_it_was_made_from_and_from_nothing_else(train, tmp_path):
    first = train()
    assert first.returncode == 0, first.stderr
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["contents"]["model"].startswith("contents:")
    assert record["contents"]["prompts"].startswith("prompts:")
    assert record["contents"]["weights"] == {"bright@1": "none"}
    assert (record["processes"], record["trusted"]) == (1, [])

    (tmp_path / "prompts.txt").write_text("a cat\na dog\na bird\n")
    edited = train(steps=2)
    assert edited.returncode == 2, edited.stderr
    assert "the training prompts had other contents" in edited.stderr
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")

    shutil.copytree(tmp_path / "model", tmp_path / "moved")
    weights = tmp_path / "model/transformer/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2] ^= 0xFF
    weights.write_bytes(bytes(data))
    replaced = train(steps=2)
    assert replaced.returncode == 2, replaced.stderr
    assert "the base model had other contents" in replaced.stderr
    assert "--fresh" in replaced.stderr
    assert json.loads((tmp_path / "run/run.json").read_text()) == record

    (tmp_path / "prompts.txt").rename(tmp_path / "renamed.txt")
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "processes": 4}))
    (tmp_path / "bright.py").write_text(BRIGHT + "# mended\n")
    moved = train(steps=2, model="moved", prompts="renamed.txt")
    assert moved.returncode == 0, moved.stderr
    assert "continuing from" in moved.stderr
    assert "it was trained in 4 processes until now and goes on in 1" in moved.stderr
    assert "bright@1 comes from another source than before" in moved.stderr
