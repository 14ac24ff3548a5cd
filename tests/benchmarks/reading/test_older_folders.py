"""A results folder that version 0.1.0 wrote (`dgpo eval`): read, compared, reported on, and gone on with."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.harness.evaluate import evaluate
from benchmarks.harness.record import read_record, write_record
from benchmarks.harness.request import Request
from benchmarks.harness.store import read_rows
from benchmarks.reading.compare import compare
from benchmarks.reading.results import read_results
from benchmarks.report import write_report
from benchmarks.suites import load_suite
from rewards.kept_prompts import read_kept_prompts
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool

VERSION_1 = Path(__file__).parents[2] / "golden" / "folders" / "version-1"


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(VERSION_1 / "results", tmp_path / "old"))


def test_it_is_read_in_the_present_form(old):
    assert json.loads((old / "run.json").read_text())["schema"] == 1
    record = read_record(old)
    assert (record["schema"], record["kind"], record["finished"]) == (2, "evaluation", True)
    (run,) = read_results([old])
    assert [prompt.text for prompt in run.prompts.values()] == ["a red sign", 'a sign that says "OPEN"']


def test_it_is_compared_and_reported_beside_a_new_one(old, tmp_path):
    new = Path(shutil.copytree(old, tmp_path / "new"))
    write_record(new, read_record(old))
    assert json.loads((new / "run.json").read_text())["schema"] == 2
    assert list(compare([old, new])["delta"]) == [0]
    assert write_report([old, new], tmp_path / "page.html").thumbnails


def test_the_same_command_goes_on_with_it_and_gives_it_what_it_lacks(old):
    before, rows = read_record(old), read_rows(old)
    specs = parse_rewards(["imagestats.dark", "imagestats.edges"])
    suite = load_suite(str(VERSION_1 / "mine.jsonl"))

    def draw(cells):
        raise AssertionError("its images are there")

    with ScoringPool(specs, workers=0) as pool:
        facts = {name: before[name] for name in ("model", "sampler", "precision")}
        request = Request(suite, specs, old, before["run"], draw=draw, facts=facts)
        evaluate(request, pool=pool, on_note=lambda sentence: None)
    assert json.loads((old / "run.json").read_text())["schema"] == 2
    assert read_kept_prompts(old) == list(suite.prompts)
    scores = {row.key: row.score for row in read_rows(old)}
    assert {row.key: scores[row.key] for row in rows} == {row.key: row.score for row in rows}
    assert len(scores) == 4
