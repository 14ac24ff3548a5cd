"""The power line: worked values, and that it keeps its word."""

from typing import Any

import numpy as np
import pytest

from benchmarks.reading.coverage import power
from benchmarks.reading.power import detectable_difference, smallest_p


def test_the_value_of_the_specification():
    assert detectable_difference(0.027, 200, 1, 0.05) == pytest.approx(0.076, abs=0.0005)
    assert detectable_difference(1.0, 10_000, 1, 0.05) == pytest.approx(1.96 + 0.84, abs=0.01)
    assert detectable_difference(1.0, 10_000, 5, 0.05) == pytest.approx(2.576 + 0.84, abs=0.01)  # 0.01, two-sided


def test_few_prompts_need_more():
    sizes: Any = [detectable_difference(1.0, prompts, 1, 0.05) for prompts in (6, 7, 10, 20, 100)]
    assert sizes == sorted(sizes, reverse=True)
    # Six prompts have to agree all, p = 2 / 64: with d = 4.4 standard errors each does with 0.8^(1/6).
    assert sizes[0] > 4.39


@pytest.mark.parametrize(("prompts", "tests"), [(0, 1), (1, 1), (5, 1), (6, 2), (8, 8)])
def test_where_no_p_can_be_low_enough_nothing_is_promised(prompts, tests):
    assert smallest_p(prompts, tests) >= 0.05
    assert detectable_difference(1.0, prompts, tests, 0.05) is None


@pytest.mark.parametrize(("prompts", "rewards"), [(7, 1), (10, 1), (10, 5), (20, 1)])
def test_four_of_five_find_it(prompts, rewards):
    trials = 400
    found = power("normal", prompts, rewards, trials, np.random.default_rng(31))
    assert found is not None
    assert found == pytest.approx(0.8, abs=2.6 * (0.8 * 0.2 / trials) ** 0.5)
