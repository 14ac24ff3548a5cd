"""No bit of a training changes unnoticed: tiny runs through the program are what they were when they were recorded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dgpo.recorded_runs import (
    INTERRUPTED,
    PINNED,
    ROOT,
    RUNS,
    TWO_PROCESSES,
    describe_platform,
    differences,
    read_record,
)

ALONE = [*RUNS, *(f"{name}, interrupted" for name in INTERRUPTED)]
TOGETHER = [f"{name}, two processes" for name in TWO_PROCESSES]


def train_again(folder: Path, which: str) -> dict[str, Any]:
    """In a process whose libraries compute as the record's did."""
    words = [sys.executable, "-m", "tests.dgpo.recorded_runs", str(folder), "--only", which]
    variables = {**os.environ, **PINNED, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["runs"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_again(tmp_path_factory.mktemp("recorded"), "alone")


@pytest.fixture(scope="module")
def runs_together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_again(tmp_path_factory.mktemp("recorded"), "together")


def equals_the_record(runs: dict[str, Any], name: str) -> None:
    record = read_record()
    if record["platform"] != describe_platform():
        pytest.skip(f"recorded for {record['platform']}, and this is {describe_platform()}")
    assert differences(record["runs"][name], runs[name]) == []


@pytest.mark.parametrize("name", ALONE)
def test_run_is_what_was_recorded(runs: dict[str, Any], name: str) -> None:
    equals_the_record(runs, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_run_of_two_processes_is_what_was_recorded(runs_together: dict[str, Any], name: str) -> None:
    equals_the_record(runs_together, name)


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupted_run_is_the_undisturbed_one(runs: dict[str, Any], name: str) -> None:
    """On any machine. What only the earlier end leaves (its own last checkpoint and grid) is no part of the other."""
    interrupted = runs[f"{name}, interrupted"]
    assert differences(runs[name], {key: value for key, value in interrupted.items() if key in runs[name]}) == []


def test_runs_differ_from_one_another(runs: dict[str, Any]) -> None:
    """Each of the table's settings changes something, so that none is recorded in vain."""
    ends = [json.dumps(runs[name], sort_keys=True) for name in RUNS]
    assert len(set(ends)) == len(RUNS)


def test_record_is_small() -> None:
    assert Path(ROOT / "tests/dgpo/recorded_runs.json").stat().st_size < 100_000
