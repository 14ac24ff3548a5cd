"""`dgpo eval` through the real command: results, gates, resumption, and every way to ask for something wrong."""

import csv
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from benchmarks.suite import first_prompts
from cli.commands import app
from cli.suites import find_suite
from cli.training_evaluation import evaluate_policy
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.prompt import Prompt, read_prompts
from rewards.prompt_record import PROMPTS_FILE, write_training_prompts

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("height=32", "width=64", "steps=2", "guidance=1", "sampler=euler", "text_length=0")
SETS = [word for setting in SMALL for word in ("--set", f"sampling.{setting}")]

CTRL_C_AFTER_A_BLOCK = """
import os, signal
from benchmarks.harness.store import ScoreStore
append = ScoreStore.append
def append_and_interrupt(self, rows):
    append(self, rows)
    os.kill(os.getpid(), signal.SIGINT)
ScoreStore.append = append_and_interrupt
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)
    return lambda *words: CliRunner().invoke(app, ["eval", *map(str, words)])


@pytest.fixture
def drawing(run, model_folder, prompt_file):
    """Evaluate the noise model with imagestats, in this process."""
    words = ["--suite", prompt_file, "--model", model_folder, *SETS, "--reward", "imagestats", "--workers", "0"]
    return lambda *more: run(*words, *more)


def write_signs(folder: Path, prompts: Mapping[str, str]) -> Path:
    """An images folder whose pictures say, for each prompt, the given word."""
    folder.mkdir()
    for text, word in prompts.items():
        image = Image.new("RGB", (160, 64), "white")
        ImageDraw.Draw(image).text((80, 32), word, fill="black", font=ImageFont.load_default(size=36), anchor="mm")
        image.save(folder / f"{Prompt(text).id}_0.png")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_base_model_is_measured_into_the_default_folder(drawing, tmp_path):
    done = drawing("--seeds", 2)
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "runs/eval/prompts-noise"
    assert f"results: {folder.relative_to(tmp_path)}" in done.stdout
    assert len(list((folder / "images").iterdir())) == 6
    assert len(read(folder / "scores.csv")) == 6 * 3
    summary = read(folder / "summary.csv")
    assert [(row["run"], row["suite"], row["domain"], row["prompts"], row["seeds"]) for row in summary] == [
        ("noise", "prompts", "none", "3", "2")
    ] * 3
    record = json.loads((folder / "run.json").read_text())
    assert record["sampler"]["steps"] == 2
    assert record["model"]["weights"].startswith("contents:")
    assert record["packages"]["torch"] == importlib.metadata.version("torch")
    assert record["command_line"]
    assert "eval noise 6/6 images" in done.stderr


def test_a_size_left_to_the_model_is_recorded_in_pixels_also_of_a_folder_that_says_null(run, model_folder, prompt_file):
    own = ("height=null", "width=null", *SMALL[2:])
    sets = [word for setting in own for word in ("--set", f"sampling.{setting}")]
    words = ["--suite", prompt_file, "--model", model_folder, *sets, "--reward", "imagestats", "--workers", "0"]
    record = Path("results/run.json")

    def amend(*more, **changes):
        old = json.loads(record.read_text())
        record.write_text(json.dumps({**old, "sampler": {**old["sampler"], **changes}}))
        return run(*words, "--output", "results", *more)

    done = run(*words, "--output", "results")
    assert done.exit_code == 0, done.stderr
    drawn = json.loads(record.read_text())["sampler"]
    assert (drawn["height"], drawn["width"]) == (64, 64) == Image.open(next(Path("results/images").glob("*"))).size
    done = amend("--seeds", 2, height=None, width=None)
    assert done.exit_code == 0, done.stderr
    assert json.loads(record.read_text())["sampler"] == drawn
    other = amend("--set", "sampling.height=32", height=None, width=None)
    assert other.exit_code == 2
    assert "another run" in other.stderr


def test_table_tells_mean_and_interval_of_the_summary(drawing, tmp_path):
    table = drawing().stdout.splitlines()
    (row,) = (
        row for row in read(tmp_path / "runs/eval/prompts-noise/summary.csv") if row["reward"] == "imagestats.edges@1"
    )
    (line,) = (line for line in table if line.startswith("imagestats.edges@1"))
    assert f"{float(row['mean']):.3f} [{float(row['ci_low']):.3f}, {float(row['ci_high']):.3f}]" in line


def test_json_is_one_document_and_nothing_else(drawing):
    document = json.loads(drawing("--json").stdout)
    assert (document["images"], document["failed"]) == (3, 0)
    assert [row["reward"] for row in document["rewards"]] == [
        "imagestats.dark@1",
        "imagestats.edges@1",
        "imagestats.colours@1",
    ]


def test_run_is_measured_in_and_out_of_its_domain(run, run_folder, prompt_file, tmp_path):
    done = run("--suite", prompt_file, "--model", f"{run_folder}@1", "--reward", "imagestats", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    rows = read(tmp_path / "runs/eval/prompts-trained@1/summary.csv")
    assert {row["reward"]: row["domain"] for row in rows} == {
        "imagestats.dark@1": "out",
        "imagestats.edges@1": "in",
        "imagestats.colours@1": "out",
    }


def test_prompts_that_were_trained_on_are_told(run, run_folder, prompt_file, tmp_path):
    """Where the run left the fingerprints of its training prompts; without them nothing is claimed."""
    words = ("--suite", prompt_file, "--model", f"{run_folder}@1", "--reward", "imagestats", "--workers", 0)
    assert "training prompts" not in run(*words).stderr
    prompts = [prompt.text for prompt in read_prompts(prompt_file)]
    write_training_prompts(run_folder, [prompts[0].upper(), "a prompt of its own"])
    try:
        done = run(*words)
    finally:
        (run_folder / PROMPTS_FILE).unlink()
    assert f"1 of {len(prompts)} prompts" in done.stderr
    assert "among its 2 training prompts" in done.stderr


def test_images_of_a_folder_are_read_by_the_ocr_engine_in_a_worker(run, prompt_file, tmp_path):
    texts: list[str] = prompt_file.read_text().splitlines()
    words = dict(zip(texts, ("cat", "dog", "xyz"), strict=True))
    done = run(
        "--suite", prompt_file, "--images", write_signs(tmp_path / "signs", words), "--reward", "ocr", "--output", "out"
    )
    assert done.exit_code == 0, done.stderr
    scores = {row["prompt"]: (row["score"], row["detail"]) for row in read(tmp_path / "out/scores.csv")}
    assert scores['a red sign that says "cat"'] == ("1.0", "cat")
    assert scores['a green sign that says "sun"'] == ("0.0", "xyz")
    assert json.loads((tmp_path / "out/run.json").read_text())["rewards"]["ocr@1"]["provenance"]["engine"] == "rapidocr"


def test_missing_image_ends_with_5_unless_allowed(run, prompt_file, tmp_path):
    lines = prompt_file.read_text().splitlines()
    folder = write_signs(tmp_path / "signs", dict(zip(lines[:2], ("cat", "dog"), strict=True)))
    words = ["--suite", prompt_file, "--images", folder, "--reward", "imagestats.dark", "--workers", 0]
    done = run(*words)
    assert done.exit_code == 5
    assert "1 of 3 images could not be scored" in done.stderr
    assert "1 image without a score: the file is not there (" in done.stdout
    assert run(*words, "--max-failed", 1).exit_code == 0
    statuses = [row["status"] for row in read(tmp_path / "runs/eval/prompts-signs/scores.csv")]
    assert sorted(statuses) == ["missing", "ok", "ok"]


def test_all_seeds_of_a_folder_are_scored_unless_a_number_is_given(run, prompt_file, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for text in prompt_file.read_text().splitlines():
        for seed in (0, 4):
            Image.new("RGB", (32, 32)).save(folder / f"{Prompt(text).id}_{seed}.png")
    run("--suite", prompt_file, "--images", folder, "--reward", "imagestats.dark", "--workers", 0, "--output", "all")
    run(
        "--suite",
        prompt_file,
        "--images",
        folder,
        "--reward",
        "imagestats.dark",
        "--workers",
        0,
        "--output",
        "one",
        "--seeds",
        1,
    )
    assert {row["seed"] for row in read(tmp_path / "all/scores.csv")} == {"0", "4"}
    assert {row["seed"] for row in read(tmp_path / "one/scores.csv")} == {"0"}


def test_output_folder_of_another_run_is_refused(drawing, run, run_folder, prompt_file, tmp_path):
    drawing("--output", "out")
    before = (tmp_path / "out/scores.csv").read_bytes()
    done = run(
        "--suite", prompt_file, "--model", run_folder, "--reward", "imagestats", "--workers", 0, "--output", "out"
    )
    assert done.exit_code == 2
    assert "holds the results of another run" in done.stderr
    assert (tmp_path / "out/scores.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--suite", "sings"], 'Did you mean "signs"?'),
        (["--suite", "absent.txt"], "there is no such prompt file"),
        (["--suite", "empty.txt"], "holds no prompt"),
        (["--suite", "signs", "--reward", "orc"], 'Did you mean "ocr"?'),
        (["--suite", "signs", "--reward", "ocr", "--reward-set", "ocr.enigne=rapidocr"], 'Did you mean "engine"?'),
        (["--suite", "signs", "--reward", "ocr", "--weights", "imagestats=x"], "not among those given"),
        (["--suite", "signs", "--model", "tniy"], 'Did you mean "tiny"?'),
        (["--suite", "signs", "--set", "sampling.stepps=3", "--model", "MODEL"], 'Did you mean "sampling.steps"?'),
        (["--suite", "plain.txt", "--reward", "ocr", "--model", "tiny"], "a cat without a word"),
        (["--suite", "plain.txt", "--model", "tiny"], "name one with --reward"),
        (["--suite", "signs", "--model", "tiny", "--images", "."], "either --model"),
        (["--suite", "signs", "--images", "absent"], "is not a folder of images"),
        (["--suite", "signs", "--images", ".", "--set", "sampling.steps=3"], "are for a model that draws"),
        (["--suite", "signs", "--images", ".", "--base", "x"], "are for a model that draws"),
    ],
)
def test_wrong_use_ends_with_2_and_a_hint_before_anything_is_written(run, words, hint, model_folder, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "plain.txt").write_text("a cat without a word\n")
    done = run(*(str(model_folder) if word == "MODEL" else word for word in words))
    assert done.exit_code == 2, done.stderr
    assert hint in done.stderr
    assert not (tmp_path / "runs").exists()


def test_missing_extra_ends_with_3_and_lists_every_reward_with_the_command(program, without, prompt_file):
    words = ["eval", "--suite", str(prompt_file), "--reward", "ocr", "--reward", "ocr-strict", "--reward", "imagestats"]
    done = program(*words, "--model", "tiny", "--workers", "0", before=without("rapidocr", "onnxruntime"))
    assert done.returncode == 3
    problems, without_them = done.stderr.split("To go on without them: ")
    assert "\nocr@1         -         " in problems
    assert "\nocr-strict@1  -         " in problems
    assert "imagestats" not in problems
    assert without_them.split() == [
        word for name in ("dark", "edges", "colours") for word in ("--reward", f"'imagestats.{name}@1'")
    ]
    assert done.stderr.count("pip install 'dgpo[ocr]'") == 2
    assert "Traceback" not in done.stderr


KILL_BEFORE_AN_IMAGE = """
import os, signal
if os.environ.get("KILL_RANK") == os.environ.get("RANK", "alone"):
    left = int(os.environ["KILL_AT"])
    replace = os.replace
    def replace_or_die(source, target, **more):
        global left
        left -= str(target).endswith(".png")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target, **more)
    os.replace = replace_or_die
"""


@pytest.mark.slow
def test_killed_commands_of_one_and_of_two_processes_go_on_in_three_to_the_same_files(run, model_folder, tmp_path):
    """kill -9 of a process that draws, twice; torchrun ends it, and all is as if one process had never been killed."""
    (tmp_path / "many.txt").write_text("".join(f"prompt {number}\n" for number in range(20)))
    (tmp_path / "sitecustomize.py").write_text(KILL_BEFORE_AN_IMAGE)
    words = ["--suite", "many.txt", "--model", str(model_folder), *SETS, "--reward", "imagestats", "--workers", "0"]
    words += ["--seeds", "2", "--output"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])

    def start(*launcher: str, more: tuple[str, ...] = (), **environment: str):
        line = [sys.executable, *launcher, "-m", "cli.main", "eval", *words, "cut", *more]
        variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
        return subprocess.run(line, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600)

    pair = start(more=("--num-processes", "2"), KILL_RANK="0", KILL_AT="3")
    assert pair.returncode == 128 + signal.SIGKILL, pair.stderr
    assert "process 0 of 2 was ended by SIGKILL, so the others are stopped; what is finished is kept" in pair.stderr
    alone = start(KILL_RANK="alone", KILL_AT="2")
    assert alone.returncode == -signal.SIGKILL, alone.stderr
    assert not json.loads((tmp_path / "cut/run.json").read_text())["finished"]
    three = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3")
    assert three.returncode == 0, three.stderr
    assert three.stdout.count("results: cut") == 1
    assert json.loads((tmp_path / "cut/run.json").read_text())["processes"] == 3
    assert run(*words, "whole").exit_code == 0
    rows = {name: read(tmp_path / name / "scores.csv") for name in ("cut", "whole")}
    for row in (*rows["cut"], *rows["whole"]):
        del row["seconds"]
    assert rows["cut"] == rows["whole"]
    for folder in ("cut", "whole"):
        assert not list((tmp_path / folder).glob("scores.part-*"))
    images = {name: {file.name: file.read_bytes() for file in (tmp_path / name / "images").iterdir()} for name in rows}
    assert len(images["whole"]) == 40
    assert images["cut"] == images["whole"]
    assert (tmp_path / "cut/summary.csv").read_bytes() == (tmp_path / "whole/summary.csv").read_bytes()


@pytest.mark.slow
def test_no_more_processes_than_blocks_are_started(program, model_folder, prompt_file, tmp_path):
    words = ["--suite", str(prompt_file), "--model", str(model_folder), *SETS, "--reward", "imagestats.edges"]
    done = program("eval", *words, "--workers", "0", "--output", "out", "--num-processes", "8")
    assert done.returncode == 0, done.stderr
    assert "gives work to 1 of 8 processes; starting 1" in done.stderr
    assert len(read(tmp_path / "out/scores.csv")) == 3


def test_a_job_that_is_gone_or_half_there_is_told(run, prompt_file, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    done = run("--suite", prompt_file, "--reward", "imagestats", "--num-processes", 2)
    assert done.exit_code == 3
    assert "lacks RANK and LOCAL_RANK and MASTER_ADDR and MASTER_PORT. Unset WORLD_SIZE" in done.stderr
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    refused = run("--suite", prompt_file, "--reward", "imagestats", "--num-processes", 2)
    assert refused.exit_code == 2
    assert "this is already one of 4" in refused.stderr
    monkeypatch.setattr("dgpo.processes.PATIENCE_S", 0.5)
    gone = run("--suite", prompt_file, "--reward", "imagestats")
    assert gone.exit_code == 3
    assert "nobody answers there. Unset WORLD_SIZE" in gone.stderr


@pytest.mark.slow
def test_a_machine_that_does_not_see_the_folder_says_so(run, model_folder, prompt_file, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hurry = "import rewards.files; rewards.files.PATIENCE_S = 1.0; from cli.main import main; main()"
    words = ["--suite", str(prompt_file), "--model", str(model_folder), *SETS, "--reward", "imagestats.edges"]
    line = [sys.executable, "-P", "-c", hurry, "eval", *words, "--workers", "0", "--output", "out"]
    both = []
    for rank in range(2):
        place = tmp_path / f"machine-{rank}"
        place.mkdir()
        facts = {"RANK": rank, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "WORLD_SIZE": 2, "MASTER_PORT": port}
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        variables |= {name: str(value) for name, value in facts.items()}
        both.append(subprocess.Popen(line, cwd=place, env=variables, stderr=subprocess.PIPE, text=True))
    try:
        _, told = both[1].communicate(timeout=300)
    finally:
        both[0].kill()  # it waits for the other, as it may for hours; torchrun ends it
        both[0].communicate()
    assert both[1].returncode == 3, told
    assert f"{socket.gethostname()} does not see in {tmp_path}/machine-1/out what the main process has written" in told
    assert "Traceback" not in told


def test_interrupted_evaluation_ends_with_130_and_goes_on_to_the_same_scores(program, run, model_folder, tmp_path):
    prompts = tmp_path / "many.txt"
    prompts.write_text("".join(f"prompt {number}\n" for number in range(40)))
    words = ["--suite", prompts, "--model", model_folder, *SETS, "--reward", "imagestats.edges", "--workers", 0]
    cut = program("eval", *map(str, words), "--output", "cut", before=CTRL_C_AFTER_A_BLOCK)
    assert cut.returncode == 130, cut.stderr
    assert "Traceback" not in cut.stderr
    assert len(read(tmp_path / "cut/scores.csv")) == 16
    keep = ("prompt_id", "seed", "image_sha", "reward", "score")
    rows = {}
    for output in ("cut", "whole"):
        assert run(*words, "--output", output).exit_code == 0
        rows[output] = [[row[name] for name in keep] for row in read(tmp_path / output / "scores.csv")]
    assert len(rows["whole"]) == 40
    assert rows["cut"] == rows["whole"]


@pytest.fixture
def policy(run_folder):
    from dgpo.load import load_trained

    return load_trained(run_folder, 2, torch.device("cpu"))


@pytest.fixture
def measure(policy, prompt_file, tmp_path):
    """`evaluate_policy` into a named folder, with changes; gives its result and the hashes of its images."""
    model, config, _ = policy

    def call(name, **changes):
        specs = parse_rewards(["imagestats.edges"])
        folder = tmp_path / name
        with ScoringPool(specs, 0) as pool:
            settings = {
                "specs": specs,
                "pool": pool,
                "run_name": "r@2",
                "trained_on": ["imagestats.edges@1"],
                **changes,
            }
            result = evaluate_policy(model, config.sampling, find_suite(str(prompt_file)), folder=folder, **settings)
        return result, {row["image"]: row["image_sha"] for row in read(folder / "scores.csv")}

    return call


def test_evaluation_during_training_agrees_with_the_command(measure, run, run_folder, prompt_file, tmp_path):
    seen = []
    result, images = measure("during", on_progress=lambda done, total: seen.append((done, total)))
    run(
        "--suite",
        prompt_file,
        "--model",
        run_folder,
        "--reward",
        "imagestats.edges",
        "--workers",
        0,
        "--output",
        "after",
    )
    (after,) = read(tmp_path / "after/summary.csv")
    assert result == {
        "imagestats.edges@1": {
            **{name: float(after[name]) for name in ("mean", "ci_low", "ci_high")},
            "failed": 0,
            "prompts": 3,
            "interval": after["interval"],
        }
    }
    assert images == {row["image"]: row["image_sha"] for row in read(tmp_path / "after/scores.csv")}
    assert seen[-1] == (3, 3)
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("during", "after")]
    assert records[0]["sampler"] == records[1]["sampler"]
    assert records[0]["sampler"]["dtype"] == records[1]["precision"]["dtype"]


def test_evaluation_during_training_takes_the_first_prompts_and_the_seeds(measure):
    _, images = measure("part", prompts=2, seeds=range(2))
    assert len(images) == 4


def test_evaluation_during_training_draws_with_the_average_where_there_is_one(measure, policy):
    model, _, _ = policy
    _, current = measure("current")
    model.keep("average")
    model.published = "average"
    with torch.no_grad():
        for tensor in model.snapshots["average"].values():
            tensor.zero_()
    _, average = measure("average")
    _, reference = measure("reference", who="reference")
    assert average == reference != current
    assert measure("asked", who="current")[1] == current


def test_part_of_a_suite_has_a_name_and_a_hash_of_its_own():
    suite = find_suite("signs")
    part = first_prompts(suite, 5)
    assert (part.name, part.prompts) == ("signs[:5]", suite.prompts[:5])
    assert part.sha256 != suite.sha256
    assert first_prompts(suite, None) is suite
    assert first_prompts(suite, len(suite.prompts)) is suite
