"""The official summary of a recorded result file, and the table row by hand."""

import csv
import io
import json
from pathlib import Path

import pytest

from benchmarks.geneval.accuracy import (
    PAPER_TABLE,
    TASKS,
    Judged,
    TableRow,
    render_summary,
    render_table,
    summarise_geneval,
    table_csv,
)

GOLDEN = Path(__file__).parents[2] / "golden/geneval/eval_logic"


@pytest.fixture(scope="module")
def recorded():
    lines = map(json.loads, (GOLDEN / "results.jsonl").read_text(encoding="utf-8").splitlines())
    return [Judged(line["tag"], line["metadata"], line["correct"]) for line in lines]


def test_the_official_programs_output_is_reproduced(recorded):
    summary = summarise_geneval(recorded)
    assert render_summary(summary) == (GOLDEN / "summary_stdout.txt").read_text(encoding="utf-8")
    assert summary.complete


def test_the_order_of_images_changes_only_the_order_of_tasks(recorded):
    forwards, backwards = summarise_geneval(recorded), summarise_geneval(recorded[::-1])
    assert dict(forwards.tasks) == dict(backwards.tasks)
    assert forwards.overall == backwards.overall


def test_overall_is_the_mean_of_tasks_and_not_of_images():
    judged = [Judged("counting", f"p{number}", True) for number in range(9)] + [Judged("colors", "q", False)]
    summary = summarise_geneval(judged)
    assert summary.correct_images / summary.images == 0.9
    assert summary.overall == 0.5


def test_a_prompt_is_correct_if_one_of_its_images_is():
    judged = [Judged("colors", "p", False), Judged("colors", "p", True), Judged("colors", "q", False)]
    summary = summarise_geneval(judged)
    assert (summary.prompts, summary.correct_prompts) == (2, 1)
    assert (summary.images, summary.correct_images) == (3, 1)


def test_the_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no image was judged"):
        summarise_geneval([])


def mine(name="mine", failed=3):
    shares = {tag: place % 3 / 2 for place, tag in enumerate(TASKS)}
    return TableRow(name, "measured", 0.5, shares, 12, failed, (0.25, 0.75))


def test_a_row_stands_beside_the_published_ones_and_says_what_it_is():
    lines = render_table([mine()]).splitlines()
    assert len(lines) == 2 + 17 + 1
    assert lines[-2] == "| SD3.5-M + DGPO | published | - | - | 0.97 | 1.00 | 0.99 | 0.97 | 0.95 | 0.99 | 0.91 |"
    assert lines[-1] == "| mine | measured | 12 | 3 | 0.50 | 0.00 | 0.50 | 1.00 | 0.00 | 0.50 | 1.00 |"
    assert {line.count("|") for line in lines} == {12}


def test_a_bar_in_a_models_name_opens_no_column():
    (*_, line) = render_table([mine("a|b")], published=()).splitlines()
    assert line.startswith(r"| a\|b | measured |")


def test_the_table_as_csv_keeps_five_decimals_of_what_was_measured():
    third = TableRow("a, b", "measured", 1 / 3, dict.fromkeys(TASKS, 1 / 3), 3, 0, (0.125, 2 / 3))
    *published, row = csv.DictReader(io.StringIO(table_csv([third])))
    assert [row["overall"] for row in published] == [f"{row.overall:.2f}" for row in PAPER_TABLE]
    assert {row["overall_ci_low"] for row in published} == {""}
    assert row == {
        "model": "a, b",
        "source": "measured",
        "images": "3",
        "failed": "0",
        "overall": "0.33333",
        **dict.fromkeys(TASKS, "0.33333"),
        "overall_ci_low": "0.12500",
        "overall_ci_high": "0.66667",
    }
    assert len(list(csv.DictReader(io.StringIO(table_csv([third], published=()))))) == 1


def test_what_is_not_known_is_left_open():
    row = TableRow("part", "measured", None, {"counting": 1.0, "colors": None}, 1, 0)
    table = render_table([row], published=()).splitlines()
    assert table[-1] == "| part | measured | 1 | 0 | - | - | - | 1.00 | - | - | - |"
    assert table_csv([row], published=()).splitlines()[1] == "part,measured,1,0,,,,1.00000,,,,,"


def test_the_published_overall_is_the_mean_of_the_six_tasks():
    for row in PAPER_TABLE:
        shares = [share for share in row.tasks.values() if share is not None]
        assert sum(shares) / 6 == pytest.approx(row.overall, abs=0.011), row.model
