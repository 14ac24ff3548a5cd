"""`dgpo sample` draws what `dgpo eval` would."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.commands import app
from rewards.prompt import Prompt


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["sample", *words])


def read(path):
    return np.asarray(Image.open(path)).astype(float)


def test_image_is_the_one_that_eval_draws_of_this_prompt_and_seed(run, run_folder, prompt_file, tmp_path):
    """Up to rounding: eval draws in batches, and arithmetic in bf16 differs in its last bit with the batch."""
    prompt = 'a blue sign that says "dog"'
    done = run("--model", str(run_folder), "--prompt", prompt, "--seed", "1", "--output", "new/dog.png")
    assert (done.exit_code, done.stdout) == (0, "new/dog.png\n")
    words = ["eval", "--suite", str(prompt_file), "--model", str(run_folder), "--reward", "imagestats", "--seeds", "2"]
    assert CliRunner().invoke(app, [*words, "--workers", "0", "--output", "results"]).exit_code == 0
    drawn = read(tmp_path / "new/dog.png")
    distance = {path.name: abs(read(path) - drawn).mean() for path in (tmp_path / "results/images").iterdir()}
    same = distance.pop(f"{Prompt(prompt).id}_1.png")
    assert len(distance) == 5
    assert same < 1
    assert min(distance.values()) > 10 * max(same, 0.1)


def test_default_place_names_model_prompt_and_seed(run, run_folder, tmp_path):
    path = tmp_path / run("--model", f"{run_folder}@1", "--prompt", "x", "--seed", "3").stdout.strip()
    assert path.parent == tmp_path / "runs/samples"
    assert path.name.startswith("trained@1_")
    assert path.name.endswith("_3.png")
    assert Image.open(path).size == (64, 32)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--prompt", "x", "--output", "x.jpg"], "ends in .png"),
        (["--prompt", "  "], "prompt is empty"),
        (["--prompt", "x", "--set", "steps=3"], "sampling.NAME=VALUE"),
        (["--prompt", "x", "--model", "tniy"], 'Did you mean "tiny"?'),
    ],
)
def test_wrong_use_ends_with_2(run, words, hint):
    done = run(*words)
    assert done.exit_code == 2
    assert hint in done.stderr
