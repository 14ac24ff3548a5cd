"""The source seam: images drawn by the untouched base, and those of a results folder, through the real program."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dgpo.compare_runs import compare_runs
from dgpo.offline import read_recording
from tests.cli.toys import dgpo, metrics, prepare, train

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"steps": 4, "guidance": 1.0, "height": 32, "width": 64, "text_length": 0}


@pytest.fixture(scope="module")
def results(tmp_path_factory, model_folder):
    """What `dgpo eval` leaves: three prompts, five images of each."""
    folder = tmp_path_factory.mktemp("recorded")
    prepare(folder, model_folder, {})
    sets = [word for name, value in SIZES.items() for word in ("--set", f"sampling.{name}={value}")]
    before = Path.cwd()
    os.chdir(folder)
    try:
        words = ["--suite", "prompts.txt", "--model", str(model_folder), "--reward", "bright.py:Bright", *sets]
        dgpo("eval", *words, "--seeds", "5", "--workers", "0", "--output", "results")
    finally:
        os.chdir(before)
    return folder / "results"


@pytest.fixture
def folder(tmp_path, monkeypatch, model_folder, results):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, model_folder, {"dgpo": {"times": 2, "min_sigma": 0.5}})
    shutil.copytree(results, tmp_path / "results")
    shutil.copy(results.parent / "bright.py", tmp_path)
    return tmp_path


def scores_of(folder):
    with (folder / "results/scores.csv").open(newline="") as file:
        return {(row["prompt_id"], int(row["seed"])): float(row["score"]) for row in csv.DictReader(file)}


def test_a_results_folder_is_trained_on_and_a_run_goes_on(folder):
    said = train("run", "--from", "results", "--steps", "3")
    assert "rollout" not in said.split("per image: ")[1].split("\n")[0]
    train("again", "--from", "results", "--steps", "1")
    train("again", "--from", "results", "--steps", "3")
    assert [one for one in compare_runs(folder / "run", folder / "again") if one.step == 3] == []
    lines = metrics(folder / "run")
    assert all(line["passes"]["rollout"] == 0 and line["gradient_norm"] > 0 for line in lines)
    assert {value for line in lines for value in line["times"]["trained"]} <= set(lines[0]["times"]["rollout"])
    known = scores_of(folder)
    for line in lines:
        assert min(known.values()) <= line["reward"] <= max(known.values())
    record = json.loads((folder / "run/run.json").read_text())
    assert record["contents"]["source.folder"] == read_recording(folder / "results", 4).contents


def test_groups_are_the_images_of_a_prompt_with_the_scores_that_stand_there(folder):
    """Of five images four make a group; its reward is their mean in scores.csv, and no image is scored again."""
    train("run", "--from", "results", "--steps", "1", "--set", "groups=1", "--set", "group_size=4")
    (line,) = metrics(folder / "run")
    known = scores_of(folder)
    by_prompt = {}
    for (prompt_id, _), score in known.items():
        by_prompt.setdefault(prompt_id, []).append(score)
    means = [(sum(scores) - left) / 4 for scores in by_prompt.values() for left in scores]
    assert min(abs(line["reward"] - mean) for mean in means) < 1e-12


def test_images_without_a_score_of_the_reward_are_scored_now(folder):
    with (folder / "results/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["reward"] = "other@1"
    with (folder / "results/scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    train("now", "--from", "results")
    assert all(0 < line["reward"] < 1 for line in metrics(folder / "now"))


def test_a_changed_folder_is_another_run(folder):
    train("run", "--from", "results", "--steps", "1")
    image = sorted((folder / "results/images").iterdir())[0]
    with (folder / "results/scores.csv").open() as file:
        text = file.read()
    (folder / "results/scores.csv").write_text(text.replace(text.splitlines()[1].split(",")[-6], "0" * 64))
    assert image.exists()
    said = train("run", "--from", "results", "--steps", "2", code=2)
    assert "the recorded images had other contents" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "absent"], "is no results folder of `dgpo eval`"),
        (["--from", "results", "--set", "group_size=9"], "No prompt of .* has 9 images .* the most that one has is 5"),
        (["--from", "results", "--offline"], "give one of them"),
        (["--from", "results", "--set", "sampling.height=64"], "are 32 x 64 pixels, and this training is of another"),
        (["--set", "source.kind=recorded"], "needs a results folder"),
    ],
)
def test_bad_sources_are_refused(folder, words, said):
    assert re.search(said, train("run", *words, code=2).replace("\n", " "))


def test_offline_draws_with_the_base_in_every_iteration(folder):
    """The first iteration is the online one's; later ones are those of the untouched base, whatever was learned."""
    hot = ("--set", "optimizer.learning_rate=0.05", "--steps", "3")
    train("online", *hot)
    train("offline", "--offline", *hot)
    train("still", "--offline", "--steps", "3", "--set", "optimizer.learning_rate=1e-12")
    online, offline, still = (metrics(folder / name) for name in ("online", "offline", "still"))
    assert online[0]["reward"] == offline[0]["reward"]
    assert online[2]["reward"] != offline[2]["reward"]
    assert [line["reward"] for line in offline] == [line["reward"] for line in still]
    train("again", "--offline", "--set", "optimizer.learning_rate=0.05", "--steps", "1")
    train("again", "--offline", *hot)
    assert [one for one in compare_runs(folder / "offline", folder / "again") if one.step == 3] == []


@pytest.mark.slow
def test_two_processes_learn_from_recorded_images_as_one_does(folder):
    train("one", "--from", "results")
    words = ["train", "--recipe", "recipe.yaml", "--reward", "bright.py:Bright", "--from", "results", "--output", "two"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "cli.main", *words, "--num-processes", "2"], check=True, env=variables)
    for one, two in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert one["times"] == two["times"]
        assert two["reward"] == pytest.approx(one["reward"], rel=1e-12)
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
