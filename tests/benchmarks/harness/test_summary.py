"""summary.csv by hand: failures are counted and left out, and no mean is made of nothing."""

import math
from dataclasses import replace

import pytest

from benchmarks.harness.store import MISSING
from benchmarks.harness.summary import count_failures, summarise, tell_failures, write_summary

POINTS = {"taste@1": {"unit": "points", "bounds": (0.0, 1.0)}}


def test_a_summary_by_hand(suite, make_row):
    rows = [
        make_row(suite, 0, 0, score=0.0),
        make_row(suite, 0, 1, score=1.0),
        make_row(suite, 1, 0, score=0.9),
        make_row(suite, 1, 1, score=None),
        make_row(suite, 2, 0, score=None),
        make_row(suite, 2, 1, score=None),
    ]
    (row,), notes = summarise(rows, POINTS, ["taste@1"])
    # Prompt means 0.5 and 0.9: mean 0.7, sd 0.2 * sqrt(2), stderr 0.2. The failed prompt is not a zero.
    assert row.mean == pytest.approx(0.7)
    assert row.stderr == pytest.approx(0.2)
    assert (row.prompts, row.seeds, row.failed, row.domain, row.unit) == (2, 2, 3, "in", "points")
    # Two prompts: Student's t of one degree of freedom, 12.7 standard errors either way, within the bounds.
    assert (row.ci_low, row.ci_high, row.interval) == (0.0, 1.0, "few prompts")
    assert notes == []


def test_all_failed_has_no_mean_and_says_so(suite, make_row):
    rows = [make_row(suite, number, 0, score=None) for number in range(3)]
    (row,), notes = summarise(rows, POINTS, None)
    assert (row.mean, row.stderr, row.ci_low, row.ci_high, row.failed) == (None, None, None, None, 3)
    assert notes == ["taste@1: none of 3 images could be scored, so there is no mean."]


def test_one_prompt_has_a_mean_and_no_interval(suite, make_row):
    (row,), _ = summarise([make_row(suite, 0, 0, score=0.25)], POINTS, None)
    assert (row.mean, row.stderr, row.ci_low, row.interval) == (0.25, None, None, "none")


def test_the_file(tmp_path, suite, make_row):
    rows = [make_row(suite, number, 0, score=float(number)) for number in range(3)]
    rows += [make_row(suite, number, 0, reward="depth@2", score=None) for number in range(3)]
    table, _ = summarise(rows, {**POINTS, "depth@2": {"unit": "m", "bounds": (None, None)}}, None)
    write_summary(tmp_path, table)
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert lines[0] == "run,suite,reward,unit,domain,prompts,seeds,failed,mean,stderr,ci_low,ci_high,interval"
    assert lines[1].startswith(f"base,small,taste@1,points,none,3,1,0,1.0,{1 / math.sqrt(3)},")
    assert lines[1].endswith(",few prompts")
    assert lines[2] == "base,small,depth@2,m,none,0,0,3,,,,,none"


def test_failures_are_counted_by_image(suite, make_row):
    rows = [make_row(suite, 0, 0, reward=reward, score=None) for reward in ("taste@1", "depth@1")]
    rows += [make_row(suite, 1, 0, score=1.0), make_row(suite, 2, 0, score=None)]
    assert count_failures(rows) == (2, {"the engine gave up": 3})


def test_fifty_missing_images_are_one_line(suite, make_row):
    """Three rewards could not judge them, and yet they are fifty; one that is broken is another matter."""
    rows = []
    for number in range(50):
        path = f"there/{number:02}.png"
        for reward in ("taste@1", "depth@1", "light@1"):
            row = make_row(suite, 0, number, reward=reward, score=None)
            rows.append(replace(row, status=MISSING, image=path, detail=f"there is no image {path}"))
    broken = [make_row(suite, 1, seed, score=None) for seed in range(2)]
    rows += [replace(row, image=f"{row.seed}.png", detail=f"{row.seed}.png is cut off") for row in broken]
    assert tell_failures([*rows, make_row(suite, 2, 0)]) == (
        "50 images without a score: the file is not there (there/00.png, there/01.png, there/02.png, ...)",
        "2 images without a score: it is cut off (0.png, 1.png)",
    )
    assert tell_failures(rows[:3]) == ("1 image without a score: the file is not there (there/00.png)",)
