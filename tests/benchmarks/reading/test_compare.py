"""Verdicts on folders whose scores were written by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.reading.compare import COLUMNS, compare, judge, render_comparison, write_comparison
from benchmarks.reading.power import detectable_difference
from benchmarks.reading.stats import FEW_SENTENCE, Difference, compare_pairs, holm
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.prompt import Prompt

MANY = Suite("many", tuple(Prompt(f"prompt {number}") for number in range(40)), "by hand")
CELLS = list(itertools.product(range(40), range(2)))


def spread(shift=0.0, seed=0, noise=0.0):
    """Scores over 40 prompts x 2 seeds with a large spread between prompts, `shift` added and a little noise."""
    difficulty = np.random.default_rng(1).normal(size=40)
    extra = np.random.default_rng(seed).normal(scale=noise, size=len(CELLS)) if noise else np.zeros(len(CELLS))
    return {cell: float(difficulty[cell[0]] + shift + e) for cell, e in zip(CELLS, extra, strict=True)}


def row(table, reward):
    return table[table.reward == reward].iloc[0]


def test_the_columns_are_the_published_schema(write_results, tmp_path):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0.2, 2, 0.1)}, of=MANY)
    table = compare([a, b])
    write_comparison(table, tmp_path / "out" / "compare.csv")
    assert (tmp_path / "out" / "compare.csv").read_text().splitlines()[0] == (
        "base,run,suite,reward,domain,base_mean,run_mean,delta,stderr,ci_low,ci_high,p,p_holm,win_rate,prompts,verdict,interval"
    )
    assert tuple(table.columns) == COLUMNS


def test_numbers_are_those_of_the_statistics(write_results):
    first, second = spread(), spread(0.2, 2, 0.1)
    a = write_results("a", {"taste@1": first}, of=MANY)
    b = write_results("b", {"taste@1": second}, of=MANY)
    found = row(compare([a, b]), "taste@1")
    wanted = compare_pairs(
        [first[cell] for cell in CELLS], [second[cell] for cell in CELLS], [MANY.prompts[p].id for p, _ in CELLS]
    )
    assert (found.base, found.run, found.suite, found.prompts) == ("a", "b", "many", 40)
    for name in ("base_mean", "run_mean", "delta", "stderr", "ci_low", "ci_high", "p", "win_rate"):
        assert found[name] == pytest.approx(getattr(wanted, name)), name
    assert found.delta == pytest.approx(0.2, abs=0.05)
    assert found.verdict == "better"


def test_direction_descriptive_and_domain(write_results):
    scores = {"taste@1": spread(), "error@1": spread(), "dark@1": spread()}
    better = {"taste@1": spread(0.2, 2, 0.1), "error@1": spread(0.2, 3, 0.1), "dark@1": spread(0.2, 4, 0.1)}
    direction = {"error": False, "dark": None}
    a = write_results("a", scores, of=MANY, direction=direction)
    b = write_results("b", better, of=MANY, direction=direction, trained_on=["taste@1"])
    table = compare([a, b]).set_index("reward")
    assert table.verdict.to_dict() == {"taste@1": "better", "error@1": "worse", "dark@1": "higher"}
    assert table.domain.to_dict() == {"taste@1": "in", "error@1": "out", "dark@1": "out"}
    assert (table.delta > 0).all()
    assert table.win_rate["taste@1"] > 0.9
    assert table.win_rate["error@1"] < 0.1
    back = compare([b, a]).set_index("reward")
    assert back.verdict.to_dict() == {"taste@1": "worse", "error@1": "better", "dark@1": "lower"}
    assert back.domain.to_dict() == table.domain.to_dict()


def test_base_models_have_no_domain(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0, 2, 0.1)}, of=MANY)
    assert row(compare([a, b]), "taste@1").domain == "none"


def test_no_difference_and_not_worse(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0.0, 2, 0.1)}, of=MANY)
    assert row(compare([a, b]), "taste@1").verdict == "no difference shown"
    assert row(compare([a, b], {"taste": 0.05}), "taste@1").verdict == "not worse by more than 0.05"
    assert row(compare([a, b], {"taste@1": 0.001}), "taste@1").verdict == "no difference shown"


def difference(low, high, p=0.001):
    return Difference(0.0, 0.0, (low + high) / 2, 0.1, low, high, p, 0.5, 30, "bootstrap", 30)


@pytest.mark.parametrize(
    ("low", "high", "p", "higher_is_better", "margin", "verdict"),
    [
        (0.1, 0.3, 0.01, True, None, "better"),
        (0.1, 0.3, 0.01, False, None, "worse"),
        (0.1, 0.3, 0.01, None, None, "higher"),
        (-0.3, -0.1, 0.01, True, None, "worse"),
        (-0.3, -0.1, 0.01, False, None, "better"),
        (-0.3, -0.1, 0.01, None, None, "lower"),
        (0.1, 0.3, 0.05, True, None, "no difference shown"),  # 0.05 is not below 0.05
        (-0.1, 0.3, 0.01, True, None, "no difference shown"),  # the interval holds 0
        (0.0, 0.3, 0.01, True, None, "no difference shown"),
        (-0.1, 0.3, 0.5, None, 0.5, "no difference shown"),
        (-0.04, 0.3, 0.5, True, 0.05, "not worse by more than 0.05"),
        (-0.05, 0.3, 0.5, True, 0.05, "no difference shown"),  # the lower end has to be above the margin
        (-0.3, 0.04, 0.5, False, 0.05, "not worse by more than 0.05"),
        (-0.3, 0.06, 0.5, False, 0.05, "no difference shown"),
        (0.1, 0.3, 0.01, True, 0.05, "better"),
        (-0.04, -0.01, 0.01, True, 0.05, "not worse by more than 0.05"),  # a small loss that was declared acceptable
        (-0.3, -0.1, 0.01, True, 0.05, "worse"),
        (math.nan, math.nan, 1.0, True, 0.05, "no difference shown"),
    ],
)
def test_verdicts(low, high, p, higher_is_better, margin, verdict):
    assert judge(difference(low, high), p, higher_is_better, margin) == verdict


def test_holm_runs_over_the_rewards_of_one_pair(write_results):
    names = ["taste@1", "depth@1", "light@1"]
    a = write_results("a", {name: spread() for name in names}, of=MANY)
    b = write_results("b", {name: spread(0.03, i, 0.1) for i, name in enumerate(names, 5)}, of=MANY)
    c = write_results("c", {name: spread(0.5, i, 0.1) for i, name in enumerate(names, 8)}, of=MANY)
    table = compare([a, b, c])
    assert table.run.tolist() == ["b"] * 3 + ["c"] * 3
    assert set(table.base) == {"a"}
    for _, pair in table.groupby("run"):
        assert pair.p_holm.tolist() == pytest.approx(holm(pair.p.tolist()))
    assert compare([a, c]).equals(table[table.run == "c"].reset_index(drop=True))


def test_failed_images_are_left_out_of_both(write_results):
    first = {**spread(), (1, 0): None, (1, 1): None}
    second = {**spread(0.1), (0, 0): None}
    a = write_results("a", {"taste@1": first}, of=MANY)
    b = write_results("b", {"taste@1": second}, of=MANY)
    table = compare([a, b])
    assert row(table, "taste@1").prompts == 39
    assert row(table, "taste@1").delta == pytest.approx(0.1)
    assert "taste@1: 3 of 80 images have no score in a or b" in table.attrs["notes"][0]


def test_nothing_in_common_is_no_number(write_results):
    a = write_results("a", {"taste@1": dict.fromkeys(CELLS, None), "depth@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(), "depth@1": spread(0.1)}, of=MANY)
    table = compare([a, b])
    found = row(table, "taste@1")
    assert math.isnan(found.delta)
    assert math.isnan(found.p_holm)
    assert (found.prompts, found.verdict) == (0, "no difference shown")
    assert row(table, "depth@1").p_holm == row(table, "depth@1").p  # Holm over the one that was measured
    assert "| -" in render_comparison(table)


@pytest.mark.parametrize(
    ("margins", "sentence"),
    [
        ({"tast": 0.1}, 'Did you mean "taste"'),
        ({"taste": 0.0}, "has to be a loss above 0"),
        ({"taste": math.nan}, "has to be a loss above 0"),
        ({"dark": 0.1}, "only describes an image"),
    ],
)
def test_wrong_margins_are_refused(write_results, margins, sentence):
    scores = {"taste@1": spread(), "dark@1": spread()}
    folders = [write_results(name, scores, of=MANY, direction={"dark": None}) for name in "ab"]
    with pytest.raises(UsageError, match=sentence):
        compare(folders, margins)


def test_a_comparison_needs_two_folders(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    with pytest.raises(UsageError, match="at least two"):
        compare([a])
    with pytest.raises(UsageError, match="named twice"):
        compare([a, a / ".." / "a"])


def test_runs_of_one_name_are_told_apart(write_results):
    a = write_results("tiny", {"taste@1": spread()}, of=MANY, folder="before")
    b = write_results("tiny", {"taste@1": spread(0.1)}, of=MANY, folder="after")
    found = row(compare([a, b]), "taste@1")
    assert (found.base, found.run) == (str(a), str(b))


def test_the_table_in_words(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0.2)}, of=MANY)
    table = compare([a, b])
    lines = render_comparison(table).splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert "| +0.200 [+0.200, +0.200] | <0.001   | 100% | better  |" in lines[2]


def test_rewards_of_one_side_are_mentioned(write_results):
    a = write_results("a", {"taste@1": spread(), "depth@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0.2)}, of=MANY, sampler=None)
    table = compare([a, b])
    assert table.reward.tolist() == ["taste@1"]
    assert table.attrs["notes"] == [
        "depth@1: scored in a but not in b, so not compared.",
        "b: nobody recorded how its images were drawn, so starting noise may not be shared.",
    ]


def test_other_samplers_are_noted_where_they_are_allowed(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0.2)}, of=MANY, sampler={"steps": 40, "dtype": "bf16"})
    with pytest.raises(UsageError, match="--any-sampler"):
        compare([a, b])
    assert compare([a, b], any_sampler=True).attrs["notes"] == [
        "a and b were drawn by other sampler settings (steps 10 and 40, dtype fp32 and bf16), which may make a"
        " difference as the model does."
    ]


def test_a_precision_that_nobody_recorded_is_noted(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread(0.2)}, of=MANY, sampler={"steps": 10})
    assert compare([a, b]).attrs["notes"] == ["b: the precision in which its images were drawn was not recorded."]


def test_other_suites_are_refused(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY)
    b = write_results("b", {"taste@1": spread()}, of=replace(MANY, prompts=(*MANY.prompts, Prompt("one more"))))
    with pytest.raises(UsageError, match="answer other prompts"):
        compare([a, b])


def test_power_is_that_of_the_corrected_test(write_results):
    """The smallest of three p values has to be below 0.05 / 3, and each reward's own spread counts."""
    names = ["taste@1", "depth@1", "light@1"]
    a = write_results("a", {name: spread() for name in names}, of=MANY)
    b = write_results("b", {name: spread(0, i, 0.1) for i, name in enumerate(names, 5)}, of=MANY)
    c = write_results("c", {"taste@1": spread(0.2, 9, 0.1)}, of=MANY)
    table = compare([a, b, c])
    errors = {(line["run"], line["reward"]): line["stderr"] for line in table.to_dict("records")}
    three = [f"{name} {detectable_difference(errors['b', name], 40, 3, 0.05):.2g}" for name in names]
    one = f"taste@1 {detectable_difference(errors['c', 'taste@1'], 40, 1, 0.05):.2g}"
    assert table.attrs["power"] == [
        "A true difference of this size is shown at least four times in five, if prompts differ as much as these:"
        f" b: {', '.join(three)}; c: {one}. A smaller one may be there unseen."
    ]


def test_few_prompts_are_told_beside_their_intervals(write_results):
    """Five prompts that all gain: p cannot be below 2 / 32, and nothing is promised."""
    few = replace(MANY, prompts=MANY.prompts[:5])
    a = write_results("a", {"taste@1": {(n, 0): 0.1 * n for n in range(5)}}, of=few)
    b = write_results("b", {"taste@1": {(n, 0): 0.1 * n + 0.5 + 0.01 * n * n for n in range(5)}}, of=few)
    table = compare([a, b])
    found = row(table, "taste@1")
    assert (found.interval, found.p, found.verdict) == ("few prompts", 2 / 32, "no difference shown")
    assert found.ci_low > 0
    assert "] (5 prompts)" in render_comparison(table)
    assert table.attrs["notes"] == [FEW_SENTENCE]
    assert table.attrs["power"] == [
        "No difference could have been shown, however large: taste@1 of b (5 of 5 prompts differ, with which p is at"
        " least 0.062)."
    ]


def test_few_prompts_that_moved_alike_have_no_interval_and_may_be_better(write_results):
    few = replace(MANY, prompts=MANY.prompts[:10])
    a = write_results("a", {"taste@1": {(n, 0): 0.0 for n in range(10)}}, of=few)
    b = write_results("b", {"taste@1": {(n, 0): 1.0 for n in range(10)}}, of=few)
    table = compare([a, b])
    found = row(table, "taste@1")
    assert math.isnan(found.ci_low)
    assert (found.p, found.verdict, found.interval) == (2 / 2**10, "better", "none")
    assert "| +1.000 (10 prompts, all alike) |" in render_comparison(table)
    assert row(compare([b, a]), "taste@1").verdict == "worse"


def test_what_two_runs_have_in_common_is_said_once(write_results):
    a = write_results("a", {"taste@1": spread()}, of=MANY, sampler=None)
    others = [write_results(name, {"taste@1": spread(0.1)}, of=MANY) for name in "bcd"]
    assert compare([a, *others]).attrs["notes"] == [
        "a: nobody recorded how its images were drawn, so starting noise may not be shared."
    ]
