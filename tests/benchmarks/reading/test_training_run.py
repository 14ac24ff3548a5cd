"""The run that made an evaluated model, wherever it is now."""

import shutil

import pytest

from benchmarks.reading.results import read_results
from benchmarks.reading.training_run import find_training_run


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run" / "evaluations").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    return tmp_path / "run"


def results(write_results, folder, **facts):
    return read_results([write_results("a", {"taste@1": {(0, 0): 1.0}}, folder=folder, **facts)])[0]


def test_a_run_is_where_the_record_says(write_results, run):
    found = find_training_run(results(write_results, "out", model={"run": str(run), "step": 4}))
    assert found == (run, 4, True)


def test_results_inside_a_run_move_with_it(write_results, run, tmp_path):
    results(write_results, "run/eval", model={"run": str(run), "step": 0})
    shutil.move(run, tmp_path / "moved")
    (moved,) = read_results([tmp_path / "moved" / "eval"])
    assert find_training_run(moved) == (tmp_path / "moved", 0, True)


def test_a_run_that_is_gone_is_named(write_results, tmp_path):
    found = find_training_run(results(write_results, "out", model={"run": str(tmp_path / "gone"), "step": 4}))
    assert found == (tmp_path / "gone", 4, False)


def test_what_a_run_evaluates_while_it_trains_is_its_own(write_results, run):
    name = "run/evaluations/step-000010"
    found = find_training_run(results(write_results, name, trained_on=["taste@1"], model={"name": "run@10"}))
    assert found == (run, 10, True)


def test_a_base_model_has_none(write_results):
    assert find_training_run(results(write_results, "out", model={"base": "tiny"})) is None
    assert find_training_run(results(write_results, "found", model="tiny")) is None
