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


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_loses_no_earlier_one(train, tmp_path):
    """It is written beside the loop, and said when the loop looks."""
    every = ("--set", "checkpoint.every=1")
    assert train(*every).returncode == 0
    in_the_way = tmp_path / "run/checkpoints/.step-000002.partial"
    in_the_way.symlink_to("/dev/full/nowhere")
    stopped = train(*every, steps=3)
    assert stopped.returncode == 3, stopped.stderr
    assert ".step-000002.partial" in stopped.stderr
    in_the_way.unlink()
    again = train(*every, steps=3)
    assert again.returncode == 0, again.stderr
    assert "continuing from" in again.stderr
    assert "at step 1" in again.stderr


def test_only_so_many_checkpoints_are_kept_and_the_run_goes_on_from_the_last(train, tmp_path):
    kept = ("--set", "checkpoint.every=1", "--set", "checkpoint.keep=2")
    assert train(*kept, steps=4).returncode == 0
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step-*"))
    assert names == ["step-000003", "step-000004"]
    longer = train(*kept, steps=5)
    assert longer.returncode == 0, longer.stderr
    assert "at step 4" in longer.stderr
