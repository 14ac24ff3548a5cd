"""GenEval's table as an evaluation writes it: its files, its variants, and whose prompts have it."""

import csv

import pytest

from benchmarks.geneval.results import OFFICIAL, tabulate, tags_of, tell_overall
from benchmarks.geneval.table import GENEVAL_TABLE
from rewards.prompt import Prompt
from tests.benchmarks.geneval.test_results import KEY, SUITE, VERDICTS, make_rows


def write(folder, rows, *keys):
    rewards = {key: {"name": OFFICIAL} for key in keys} | {"geneval@1": {"name": "geneval"}}
    return GENEVAL_TABLE.write(folder, rows, SUITE.prompts, {"run": "mine", "rewards": rewards})


def test_files_hold_the_row_beside_the_published_ones(tmp_path):
    rows = make_rows(SUITE, VERDICTS)
    result = tabulate(rows, tags_of(SUITE.prompts), KEY)
    write(tmp_path, rows, KEY)
    with (tmp_path / "geneval.csv").open(newline="") as file:
        *published, mine = csv.DictReader(file)
    assert len(published) == 17
    assert (mine["model"], mine["source"], mine["images"], mine["failed"]) == ("mine", "measured", "23", "1")
    assert mine["overall"] == "0.56944"
    assert float(mine["overall_ci_low"]) == pytest.approx(result.ci_low, abs=1e-5)
    text = (tmp_path / "geneval.md").read_text()
    assert "| mine | measured | 23 | 1 | 0.57 | 1.00 | 0.75 | 0.50 | 0.50 | 0.00 | 0.67 |" in text
    assert "| color_attr | 2 | 3 | 1 | 2 | 0.66667 |" in text
    assert tell_overall(result) in text


def test_two_variants_of_the_verdict_are_two_rows(tmp_path):
    other = f"{KEY}[detector=mmdet]"
    rows = [*make_rows(SUITE, VERDICTS), *make_rows(SUITE, ["1"] * 12, other)]
    written = write(tmp_path, rows, KEY, other)
    assert written is not None
    assert [one["reward"] for one in written.described["measured"]] == [KEY, other]
    assert [key in table.under[0] for key, table in zip((KEY, other), written.shown, strict=True)] == [True, True]
    names = [line.split(",")[0] for line in (tmp_path / "geneval.csv").read_text().splitlines()[-2:]]
    assert names == [f"mine ({KEY})", f"mine ({other})"]


def test_without_a_verdict_nothing_is_written(tmp_path):
    assert write(tmp_path, make_rows(SUITE, VERDICTS, "geneval@1"), KEY) is None
    assert not list(tmp_path.iterdir())


def test_a_file_of_its_records_has_it_and_no_other():
    record = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}]}
    assert GENEVAL_TABLE.fits([Prompt("a red cat", record)])
    assert not GENEVAL_TABLE.fits([Prompt("a red cat", record), Prompt("a cat")])
    assert not GENEVAL_TABLE.fits([Prompt("a cat", {"tag": "animals"})])
