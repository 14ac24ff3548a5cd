"""docs/files.md names exactly what stands in a run folder and in a results folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import metadata, store, summary
from benchmarks.reading import compare
from rewards.run_record import SCHEMA

PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
SETS = (
    "groups=1", "group_size=4", "sampling.steps=2", "dgpo.times=1", "workers=0", "watch.canaries=1", "samples.every=1",
    "checkpoint.every=1", "evaluation.every=1", "evaluation.suite=held-out.txt", "evaluation.prompts=2",
)  # fmt: skip
# What stands for the parts of a name that vary.
PARTS = {"NNNNNN": r"\d{6}", "PROMPTID": "[0-9a-f]{16}", "SEED": r"\d+", "N": r"\d+"}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def paths(title: str) -> list[str]:
    """The first cell of each row of a section's table."""
    return re.findall(r"^\| `([^`]+)` \|", section(title), re.M)


def pattern(path: str) -> re.Pattern[str]:
    words = re.split(f"({'|'.join(PARTS)})", path)
    return re.compile("".join(PARTS.get(word, re.escape(word)) for word in words))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real training of one iteration, evaluated on held-out prompts before and after."""
    place = tmp_path_factory.mktemp("files")
    (place / "held-out.txt").write_text('a red sign that says "fog"\na blue sign that says "eagle"\n')
    words = [sys.executable, "-m", "cli.main", "train", "--reward", "ocr", "--output", "run", "--steps", "1"]
    words += [word for text in SETS for word in ("--set", text)]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, capture_output=True, text=True, cwd=place, env=variables)
    assert done.returncode == 0, done.stderr
    return place / "run"


def holds(folder: Path, without: tuple[str, ...] = ()) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.startswith(without))


def agree(found: list[str], told: list[str]) -> None:
    patterns = {path: pattern(path) for path in told}
    assert [path for path in found if not any(one.fullmatch(path) for one in patterns.values())] == []
    assert [path for path, one in patterns.items() if not any(map(one.fullmatch, found))] == []


def test_a_run_folder_holds_what_the_page_says(run):
    told = paths("A run folder")
    assert "evaluations/step-NNNNNN/" in told
    assert [path.name for path in sorted((run / "evaluations").iterdir())] == ["step-000000", "step-000001"]
    agree(holds(run, without=("evaluations/",)), [path for path in told if not path.endswith("/")])


def test_a_results_folder_holds_what_the_page_says(run):
    for folder in (run / "evaluations").iterdir():
        agree(holds(folder), paths("A results folder"))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("scores.csv", store.COLUMNS),
        ("summary.csv", summary.SummaryRow.__dataclass_fields__),
        ("compare.csv", compare.COLUMNS),
    ],
)
def test_columns_are_those_that_are_written(name, columns):
    (told,) = re.findall(rf"Columns of `{re.escape(name)}`[^`]*(?:`dgpo compare --output`\):\s+|: )`([a-z_,]+)`", PAGE)
    assert told == ",".join(columns)
    assert f"`{','.join(metadata.COLUMNS)}`" in PAGE


def test_versions_of_the_record_are_all_told():
    told = re.findall(r"^\| (\d+) \|", section("run.json: versions and migration"), re.M)
    assert told == [str(version) for version in range(1, SCHEMA + 1)]
