"""GenEval's table from rows of scores, by hand: tasks, failures, intervals, and the files it is written to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.geneval.accuracy import TASKS
from benchmarks.geneval.results import OFFICIAL, table_row, tabulate, tags_of, tell_overall
from benchmarks.harness.store import FAILED, OK, Row, ScoreStore, load_scores
from benchmarks.reading.student import student_quantile
from benchmarks.suite import Suite
from benchmarks.suites import load_suite
from rewards.errors import UsageError
from rewards.prompt import Prompt

KEY = f"{OFFICIAL}@1"
GOLDEN = Path(__file__).parents[2] / "golden/geneval/eval_logic"


def small_suite(tags=tuple(TASKS), prompts=2):
    """So many prompts of each task."""
    return Suite(
        "small",
        tuple(Prompt(f"{tag} {number}", {"tag": tag}) for tag in tags for number in range(prompts)),
        "by hand",
    )


def make_rows(suite, verdicts, reward=KEY):
    """Rows of the suite's prompts in order, one for each letter: 1 correct, 0 wrong, x failed."""
    rows = []
    for prompt, letters in zip(suite.prompts, verdicts, strict=True):
        for seed, letter in enumerate(letters):
            score, status = (None, FAILED) if letter == "x" else (float(letter), OK)
            reason = "out of memory" if letter == "x" else ""
            place = (prompt.id, prompt.text, seed, "", "")
            rows.append(Row("m", suite.name, suite.sha256, *place, reward, score, status, reason, 0.1))
    return rows


def known(value: float | None) -> float:
    assert value is not None
    return value


SUITE = small_suite()
# Tasks in order: 4 of 4, 3 of 4, 2 of 4, 2 of 4, 0 of 4, and 2 of 3 with one that failed.
VERDICTS = ("11", "11", "11", "10", "11", "00", "10", "01", "00", "00", "1x", "01")


def test_accuracies_and_overall_by_hand():
    result = tabulate(make_rows(SUITE, VERDICTS), tags_of(SUITE.prompts), KEY)
    assert list(result.tasks) == list(TASKS)
    accuracies = [task.accuracy for task in result.tasks.values()]
    assert accuracies == [1, 0.75, 0.5, 0.5, 0, pytest.approx(2 / 3)]
    assert result.overall == pytest.approx((1 + 0.75 + 0.5 + 0.5 + 0 + 2 / 3) / 6)
    assert (result.images, result.failed) == (23, 1)
    last = result.tasks["color_attr"]
    assert (last.prompts, last.images, last.correct, last.failed) == (2, 3, 2, 1)


def test_the_spread_is_that_of_prompts_within_tasks():
    # Prompt means by task: (1, 1), (1, 1/2), (1, 0), (1/2, 1/2), (0, 0): standard errors 0, 1/4, 1/2, 0, 0. Of the last
    # task, 1 of 1 and 1 of 2 images: the ratio 2/3, linearised at 1.5 images per prompt to 2/3 + 2/9 and 2/3 - 2/9.
    result = tabulate(make_rows(SUITE, VERDICTS), tags_of(SUITE.prompts), KEY)
    assert result.stderr == pytest.approx(((1 / 4) ** 2 + (1 / 2) ** 2 + (2 / 9) ** 2) ** 0.5 / 6)
    # Two prompts per task show no skew; Welch and Satterthwaite leave (1/16 + 1/4 + 4/81)^2 / (1/256 + 1/16 + 16/6561)
    # = 1.9 degrees of freedom, and the interval ends at the bound.
    half = student_quantile((1 / 16 + 1 / 4 + 4 / 81) ** 2 / (1 / 256 + 1 / 16 + 16 / 6561), 0.95) * known(
        result.stderr
    )
    assert (known(result.ci_low), known(result.ci_high)) == (pytest.approx(known(result.overall) - half), 1.0)
    assert "] (tasks of as few as 2 prompts), the unweighted mean" in tell_overall(result)


def test_images_that_agree_leave_no_spread():
    """Nor an interval, where they are few."""
    result = tabulate(make_rows(SUITE, ["11"] * 12), tags_of(SUITE.prompts), KEY)
    assert (result.overall, result.stderr, result.ci_low, result.ci_high) == (1, 0, None, None)
    assert tell_overall(result) == f"GenEval overall by {KEY}: 1.00000, the unweighted mean of the six tasks."


def test_a_failed_image_is_no_zero_and_is_said():
    worse = tabulate(make_rows(SUITE, [*VERDICTS[:10], "10", "01"]), tags_of(SUITE.prompts), KEY)
    result = tabulate(make_rows(SUITE, VERDICTS), tags_of(SUITE.prompts), KEY)
    assert known(result.overall) > known(worse.overall)
    assert tell_overall(result).endswith(" 1 images could not be judged and are in no number: 1 of color_attr.")


def test_a_task_without_a_score_leaves_no_overall():
    result = tabulate(make_rows(SUITE, [*VERDICTS[:10], "xx", "xx"]), tags_of(SUITE.prompts), KEY)
    assert (result.overall, result.stderr, result.ci_low) == (None, None, None)
    task = result.tasks["color_attr"]
    assert (task.prompts, task.images, task.failed, task.accuracy) == (0, 0, 4, None)
    assert result.tasks["two_object"].accuracy == 0.75
    assert tell_overall(result) == (
        f"GenEval overall by {KEY}: none, as no image was judged of color_attr. 4 images could not be judged and are in"
        " no number: 4 of color_attr."
    )
    assert table_row("m", result).tasks["color_attr"] is None


def test_nothing_judged_at_all():
    result = tabulate(make_rows(SUITE, ["x"] * 12), tags_of(SUITE.prompts), KEY)
    assert (result.overall, result.images, result.failed) == (None, 0, 12)


def test_tasks_that_are_not_the_six_take_the_overall_away():
    suite = small_suite((*TASKS, "shapes"))
    result = tabulate(make_rows(suite, ["1"] * 14), tags_of(suite.prompts), KEY)
    assert result.tasks["shapes"].accuracy == 1
    assert result.overall is None
    assert "tasks besides the six" in tell_overall(result)


def test_a_task_with_one_prompt_has_no_interval():
    suite = small_suite(prompts=1)
    result = tabulate(make_rows(suite, ["10"] * 6), tags_of(suite.prompts), KEY)
    assert (result.overall, result.stderr, result.ci_low, result.ci_high) == (0.5, None, None, None)
    assert table_row("m", result).interval is None


def test_other_rewards_are_left_alone_and_other_prompts_refused():
    rows = [*make_rows(SUITE, VERDICTS), *make_rows(SUITE, ["0"] * 12, "geneval@1")]
    assert tabulate(rows, tags_of(SUITE.prompts), KEY) == tabulate(rows[:24], tags_of(SUITE.prompts), KEY)
    with pytest.raises(UsageError, match="no score of geneval-official@2"):
        tabulate(rows, tags_of(SUITE.prompts), "geneval-official@2")
    with pytest.raises(UsageError, match="prompts whose task is not known"):
        tabulate(rows, tags_of(small_suite(["colors"]).prompts), KEY)


def test_the_same_from_a_table_that_was_loaded(tmp_path):
    rows = make_rows(SUITE, VERDICTS)
    ScoreStore(tmp_path).append(rows)
    loaded = load_scores(tmp_path).itertuples()
    assert tabulate(loaded, tags_of(SUITE.prompts), KEY) == tabulate(rows, tags_of(SUITE.prompts), KEY)


def test_the_official_programs_overall_is_reproduced():
    lines = map(json.loads, (GOLDEN / "results.jsonl").read_text(encoding="utf-8").splitlines())
    rows, tag_of = [], {}
    for number, line in enumerate(lines):
        tag_of[line["metadata"]] = line["tag"]
        blank = make_rows(small_suite(["colors"], 1), ["1"])[0]
        rows.append(replace(blank, prompt_id=line["metadata"], seed=number, score=float(line["correct"])))
    result = tabulate(rows, tag_of, KEY)
    said = (GOLDEN / "summary_stdout.txt").read_text(encoding="utf-8").split()[-1]
    assert f"{result.overall:.5f}" == said
    assert known(result.ci_low) < known(result.overall) < known(result.ci_high)


def test_every_official_prompt_has_its_task():
    suite = load_suite("geneval")
    counts = [list(tags_of(suite.prompts).values()).count(tag) for tag in TASKS]
    assert counts == [80, 99, 80, 94, 100, 100]
    assert tags_of([Prompt("a cat")]) == {}
