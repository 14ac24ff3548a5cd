"""`dgpo sample` draws what `dgpo eval` would."""

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.commands import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["sample", *words])


def test_image_is_the_one_that_eval_draws_of_this_prompt_and_seed(run, run_folder, prompt_file, tmp_path):
    done = run(
        "--model", str(run_folder), "--prompt", 'a blue sign that says "dog"', "--seed", "1", "--output", "new/dog.png"
    )
    assert (done.exit_code, done.stdout) == (0, "new/dog.png\n")
    words = ["eval", "--suite", str(prompt_file), "--model", str(run_folder), "--reward", "imagestats", "--seeds", "2"]
    assert CliRunner().invoke(app, [*words, "--workers", "0", "--output", "results"]).exit_code == 0
    drawn = (tmp_path / "new/dog.png").read_bytes()
    others = {path.name: path.read_bytes() for path in (tmp_path / "results/images").iterdir()}
    same = [name for name, data in others.items() if data == drawn]
    assert len(others) == 6
    assert len(same) == 1
    assert same[0].endswith("_1.png")


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
