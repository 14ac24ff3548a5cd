"""GenEval through the program, on a detector and a CLIP of random weights: the path is real, the scores mean nothing.

The detector is the golden one of `tests/golden/geneval`: reduced, and never trained.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.suite import first_prompts
from cli.commands import app
from cli.eval import choose_rewards
from cli.suites import find_suite
from rewards.geneval.prompts import to_line, to_record

GOLDEN = Path(__file__).parents[1] / "golden/geneval"
WEIGHTS = ("--weights", f"geneval={GOLDEN / 'geneval'}", "--weights", f"geneval-official={GOLDEN / 'geneval'}")
KEYS = ["geneval-official@1", "geneval@1"]


@pytest.fixture(scope="module")
def call():
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def few() -> list:
    """The first test prompt of each of three tasks."""
    prompts = {prompt.spec["tag"]: prompt for prompt in reversed(find_suite("geneval").prompts)}
    return [prompts[tag] for tag in ("colors", "counting", "position")]


@pytest.fixture(scope="module")
def suite_file(few, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "few.jsonl"
    path.write_text("".join(f"{to_line(to_record(prompt))}\n" for prompt in few))
    return path


@pytest.fixture(scope="module")
def images(few, tmp_path_factory) -> Path:
    """Images as GenEval's own program lays them out; the last prompt has none."""
    folder = tmp_path_factory.mktemp("images") / "other"
    for number, prompt in enumerate(few):
        samples = folder / f"{number:05}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(to_line(to_record(prompt)))
        shutil.copy(GOLDEN / "detector/land.png", samples.parent / "grid.png")
        if number < 2:
            shutil.copy(GOLDEN / f"detector/{('sq512', 'land')[number]}.png", samples / "0000.png")
    return folder


def evaluate(call, suite_file, images, output, *more):
    rewards = ("--reward", "geneval-official", "--reward", "geneval")
    words = ("eval", "--suite", suite_file, "--images", images, *rewards, *WEIGHTS, "--workers", 0)
    return call(*words, "--output", output, *more)


@pytest.fixture(scope="module")
def evaluated(call, suite_file, images, tmp_path_factory):
    """The program's words and its folder."""
    output = tmp_path_factory.mktemp("results") / "out"
    return evaluate(call, suite_file, images, output), output


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_both_scores_of_each_image_and_a_failed_row_for_the_missing_one(evaluated, few):
    done, folder = evaluated
    assert done.exit_code == 5, done.output
    rows = read(folder / "scores.csv")
    assert [(row["prompt_id"], row["reward"]) for row in rows] == [(one.id, key) for one in few for key in KEYS]
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["missing"] * 2
    assert all(row["detail"] for row in rows)
    assert {row["score"] for row in rows if row["reward"] == KEYS[0]} <= {"0.0", "1.0", ""}
    assert "00002/samples/00000.png" in rows[-1]["detail"]


def test_the_screen_shows_tasks_beside_published_ones(evaluated):
    done, _ = evaluated
    lines = [line for line in done.stdout.splitlines() if line.startswith(("Colors ", "Position ", "Overall "))]
    colors, position, overall = (line.split() for line in lines)
    assert colors[1:3] == ["1", "0"]
    assert colors[4:] == ["0.81", "0.92", "0.95"]
    assert position == ["Position", "0", "1", "-", "0.24", "0.99", "0.99"]
    assert overall == ["Overall", "2", "1", "-", "0.63", "0.95", "0.97"]
    assert "none, as no image was judged of single_object, two_object, position, color_attr." in done.stdout
    assert "1 images could not be judged and are in no number: 1 of position." in done.stdout


def test_the_table_is_in_the_results_folder(evaluated):
    _, folder = evaluated
    *published, mine = read(folder / "geneval.csv")
    assert len(published) == 17
    assert (mine["model"], mine["images"], mine["failed"], mine["overall"]) == ("other", "2", "1", "")
    assert mine["counting"] in ("0.00000", "1.00000")
    assert "| SD3.5-M + DGPO | published |" in (folder / "geneval.md").read_text()


def test_going_on_makes_only_what_is_missing_and_json_holds_the_table(
    evaluated, call, suite_file, images, tmp_path, monkeypatch
):
    first, before = evaluated
    output, folder = tmp_path / "again", tmp_path / "other"
    shutil.copytree(images, folder)
    record = json.loads((before / "run.json").read_text())
    shutil.copytree(before, output)
    (output / "run.json").write_text(json.dumps({**record, "images": str(folder)}))
    shutil.copy(GOLDEN / "detector/tall.png", folder / "00002/samples/0000.png")
    looked = []
    from rewards.geneval.detection_cache import DetectionCache

    look = DetectionCache.look
    monkeypatch.setattr(DetectionCache, "look", lambda self, asked: looked.append(len(asked)) or look(self, asked))
    done = evaluate(call, suite_file, folder, output, "--json")
    assert done.exit_code == 0, done.output
    assert looked == [1, 1]  # the new image, by two rewards
    document = json.loads(done.stdout)["geneval"]
    (measured,) = document["measured"]
    assert (measured["reward"], measured["images"], measured["failed"]) == (KEYS[0], 3, 0)
    assert measured["tasks"]["position"]["images"] == 1
    assert measured["overall"] is None
    assert [row["model"] for row in document["published"]][-1] == "SD3.5-M + DGPO"
    scores = {(row["prompt_id"], row["reward"]): row["score"] for row in read(output / "scores.csv")}
    assert first.exit_code == 5
    for row in read(before / "scores.csv"):
        if row["status"] == "ok":
            assert scores[row["prompt_id"], row["reward"]] == row["score"]


def test_the_suites_own_rewards_are_the_verdict_and_the_graded_one():
    suite = find_suite("geneval")
    specs = choose_rewards(suite, None, None, list(WEIGHTS[1::2]))
    assert [spec.key for spec in specs] == KEYS


def test_a_part_of_the_suite_has_prompts_of_every_task():
    part = first_prompts(find_suite("geneval"), 14)
    tags = [prompt.spec["tag"] for prompt in part.prompts]
    tasks = ["single_object", "two_object", "counting", "colors", "position", "color_attr"]
    assert tags == [*tasks, *tasks, "single_object", "two_object"]
    assert part.name == "geneval[:14 by task]"
    everything = first_prompts(find_suite("geneval"), 552).prompts
    assert len(set(everything)) == 552


SMALL = ("groups=1", "group_size=2", "sampling.steps=1", "dgpo.times=1", "dgpo.min_sigma=0", "workers=0",
         "samples.every=0")  # fmt: skip
SETS = [word for setting in SMALL for word in ("--set", setting)]


def test_the_embedded_model_trains_on_it(called, suite_file, tmp_path):
    words = ["train", "--reward", "geneval", "--weights", f"geneval={GOLDEN / 'geneval'}", "--steps", "1", *SETS]
    done = called(*words, "--prompts", str(suite_file), "--set", "evaluation.prompts=1", "--output", "run")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["prompts"] == {"source": str(suite_file), "count": 3}
    assert "tiny_mmdet2.pth sha256:" in record["reward_provenance"]["geneval@1"]["weights"]
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "reward" in line] == [1]
    assert (tmp_path / "run/evaluations/step-000001/scores.csv").is_file()


def test_training_on_a_detector_that_finds_nothing_is_refused(called, tmp_path):
    (tmp_path / "blind.py").write_text(BLIND)
    (tmp_path / "p.txt").write_text("a cat\n")
    words = ("train", "--reward", "blind.py:Blind", "--prompts", "p.txt", "--set", "evaluation.every=0", *SETS)
    done = called(*words, "--steps", "1", "--output", "run")
    assert done.returncode == 3, done.stderr
    assert "the judge sees nothing" in done.stderr
    assert not (tmp_path / "run").exists()


BLIND = """
from rewards.card import Card
from rewards.errors import SetupError
from rewards.reward import Reward
from rewards.score import Score

class Blind(Reward):
    card = Card(name="blind", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="")

    def verify(self):
        raise SetupError("the judge sees nothing")

    def score(self, images, prompts):
        return [Score(0.0) for _ in images]
"""


def test_an_evaluation_that_cannot_be_is_refused_before_the_run(call, suite_file, tmp_path):
    words = ("train", "--reward", "geneval", "--weights", f"geneval={GOLDEN / 'geneval'}", "--prompts", suite_file)
    done = call(*words, "--set", "evaluation.suite=signs", "--output", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert "The run would be evaluated on signs; name another suite" in done.stderr
    assert not (tmp_path / "run").exists()


def test_dry_run_says_how_prompts_are_made(call, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.training_prompts.STREAMED", 300)
    words = ("--model", "stabilityai/stable-diffusion-3.5-medium", "--seed", 3, "--dry-run", "--output", tmp_path / "r")
    done = call("train", "--reward", "geneval", *WEIGHTS[:2], *words)
    assert done.exit_code == 0, done.output
    assert "300 prompts from GenEval's training stream" in done.stderr
    assert "seed 3" in done.stderr
    assert "suite: geneval" in done.stdout
    assert "old_after: 500" in done.stdout
    assert not (tmp_path / "r").exists()
