"""The official summary of a recorded result file, and the table row by hand."""

import csv
import io
import json
from pathlib import Path

import pytest

from benchmarks.geneval import (
    PAPER_TABLE,
    TASKS,
    GenEvalSummary,
    Judged,
    TaskAccuracy,
    render_summary,
    render_table,
    summarise_geneval,
    table_csv,
    table_row,
)

GOLDEN = Path(__file__).parents[1] / "golden/geneval/eval_logic"


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


def six_tasks():
    return GenEvalSummary(12, 7, 6, 5, {tag: TaskAccuracy(place % 3, 2) for place, tag in enumerate(TASKS)})


def test_a_row_stands_beside_the_published_ones_and_says_what_it_is():
    lines = render_table([table_row("mine", six_tasks())]).splitlines()
    assert len(lines) == 2 + 17 + 1
    assert lines[-2] == "| SD3.5-M + DGPO | published | - | 0.97 | 1.00 | 0.99 | 0.97 | 0.95 | 0.99 | 0.91 |"
    assert lines[-1] == "| mine | measured | 12 | 0.50 | 0.00 | 0.50 | 1.00 | 0.00 | 0.50 | 1.00 |"
    assert {line.count("|") for line in lines} == {11}


def test_a_bar_in_a_models_name_opens_no_column():
    (*_, line) = render_table([table_row("a|b", six_tasks())], published=()).splitlines()
    assert line.startswith(r"| a\|b | measured |")


def test_the_table_as_csv_keeps_five_decimals_of_what_was_measured():
    summary = GenEvalSummary(3, 1, 1, 1, dict.fromkeys(TASKS, TaskAccuracy(1, 3)))
    *published, mine = csv.DictReader(io.StringIO(table_csv([table_row("a, b", summary)])))
    assert [row["overall"] for row in published] == [f"{row.overall:.2f}" for row in PAPER_TABLE]
    assert mine == {
        "model": "a, b",
        "source": "measured",
        "images": "3",
        "overall": "0.33333",
        **dict.fromkeys(TASKS, "0.33333"),
    }
    assert len(list(csv.DictReader(io.StringIO(table_csv([table_row("alone", summary)], published=()))))) == 1


def test_without_all_six_tasks_there_is_no_overall_to_compare():
    row = table_row("part", summarise_geneval([Judged("counting", "p", True)]))
    assert (row.overall, row.tasks["counting"], row.tasks["colors"]) == (None, 1.0, None)
    assert (
        render_table([row], published=()).splitlines()[-1] == "| part | measured | 1 | - | - | - | 1.00 | - | - | - |"
    )


def test_the_published_overall_is_the_mean_of_the_six_tasks():
    for row in PAPER_TABLE:
        shares = [share for share in row.tasks.values() if share is not None]
        assert sum(shares) / 6 == pytest.approx(row.overall, abs=0.011), row.model
