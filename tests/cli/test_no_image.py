"""A model that makes no image: failed rows and a sentence, never a black picture with a score."""

import csv
import json

import pytest
from typer.testing import CliRunner

from cli.commands import app
from tests.cli.conftest import SIZES
from tests.dgpo.variants import with_broken_decoder, with_config

SETS = [word for name, value in SIZES.items() for word in ("--set", f"sampling.{name}={value}")]
REASON = "the pixels are not finite (NaN or infinity, computed in float32)"


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def broken(model_folder, tmp_path):
    return str(with_broken_decoder(model_folder, tmp_path / "broken"))


def test_eval_writes_failed_rows_with_the_reason_and_no_picture(run, broken, prompt_file, tmp_path):
    words = ["--suite", str(prompt_file), "--model", broken, "--dtype", "fp32", "--output", "results", "--workers", "0"]
    done = run("eval", *words, "--reward", "imagestats", *SETS)
    assert done.exit_code == 5
    with (tmp_path / "results" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["status"], row["score"]) for row in rows} == {("failed", "")}
    assert all(f"the model made no image: {REASON}" in row["detail"] for row in rows)
    assert not list(tmp_path.glob("results/images/*"))
    json.loads((tmp_path / "results" / "run.json").read_text(), parse_constant=pytest.fail)


def test_sample_says_why_and_writes_nothing(run, broken, tmp_path):
    done = run("sample", "--model", broken, "--prompt", "x", "--dtype", "fp32", "--output", "new/x.png", *SETS)
    assert done.exit_code == 3
    assert f"broken made no image: {REASON}" in done.stderr
    assert not (tmp_path / "new" / "x.png").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--set", "sampling.height=36"], "take 32 or 40"),
        (["--set", "sampling.width=7"], "take 8 or 16"),
        (["--set", "sampling.guidance=.inf"], "guidance"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "eval", "train", "dry-run", "run"])
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(
    run, model_folder, run_folder, prompt_file, tmp_path, command, words, hint
):
    model = ["--model", str(run_folder if command == "run" else model_folder)]
    given = {
        "sample": ["sample", *model, "--prompt", "x", "--output", "new/x.png"],
        "eval": ["eval", *model, "--suite", str(prompt_file), "--reward", "imagestats", "--output", "new"],
        "train": ["train", *model, "--recipe", "tiny", "--prompts", str(prompt_file), "--output", "new"],
    }
    given["run"], given["dry-run"] = given["sample"], [*given["train"], "--dry-run"]
    judged = ["--reward", "ocr"] if command in ("train", "dry-run") else []
    done = run(*given[command], *judged, *SETS, *words)
    assert done.exit_code == 2, done.stderr
    assert hint in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_scheduler_that_cannot_be_followed_is_refused(run, model_folder, tmp_path):
    folder = with_config(model_folder, tmp_path / "m", "scheduler", stochastic_sampling=True)
    done = run("sample", "--model", str(folder), "--prompt", "x", *SETS)
    assert done.exit_code == 2
    assert "sets stochastic_sampling to True" in done.stderr
