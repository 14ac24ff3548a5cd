"""Intervals from few prompts: by hand, and by how often they hold the truth."""

import math

import numpy as np
import pytest

from benchmarks.reading import stats
from benchmarks.reading.coverage import DESIGNS, coverage
from benchmarks.reading.student import Moments, moments_of_average, moments_of_mean, student_interval, student_quantile


@pytest.mark.parametrize(
    ("freedom", "level", "published"),
    [
        (1, 0.95, 12.7062),
        (2, 0.95, 4.3027),
        (4, 0.95, 2.7764),
        (18, 0.95, 2.1009),
        (4, 0.999, 8.6103),
        (199, 0.95, 1.9720),
    ],
)
def test_quantiles_are_those_of_published_tables(freedom, level, published):
    assert student_quantile(freedom, level) == pytest.approx(published, abs=6e-5)


def test_moments_by_hand():
    # (0, 0, 0, 0, 1): mean 0.2, variance 0.2, and 5 / (4 * 3) * (4 * -0.2^3 + 0.8^3) = 0.2 as third cumulant.
    found = moments_of_mean(np.array([0.0, 0, 0, 0, 1]))
    assert (found.variance, found.third, found.freedom) == pytest.approx((0.2 / 5, 0.2 / 25, 4))
    assert moments_of_mean(np.array([1.0, 3.0])) == Moments(1.0, 0.0, 1)
    assert moments_of_mean(np.array([0.1 + 0.2, 0.3])).variance == 0


def test_moments_of_an_average_by_hand():
    # Welch and Satterthwaite: (1 + 3)^2 / (1 / 4 + 9 / 9) = 12.8.
    found = moments_of_average([Moments(1.0, 2.0, 4), Moments(3.0, 6.0, 9)])
    assert (found.variance, found.third, found.freedom) == pytest.approx((1.0, 1.0, 12.8))
    assert moments_of_average([Moments(0.0, 0.0, 4), Moments(0.0, 0.0, 9)]) == Moments(0.0, 0.0, 4)


def test_an_interval_by_hand():
    # 2.776 standard errors of 0.2 either way, and 0.008 * (1 + 2 * 2.776^2) / (6 * 0.04) = 0.547 where the skew is.
    low, high = student_interval(0.2, moments_of_mean(np.array([0.0, 0, 0, 0, 1])), 0.95)
    assert (low, high) == pytest.approx((0.2 - 0.5553, 0.2 + 0.5553 + 0.5472), abs=1e-3)
    assert student_interval(0.8, moments_of_mean(np.array([1.0, 1, 1, 1, 0])), 0.95) == pytest.approx(
        (1 - high, 1 - low)
    )


def test_few_prompts_say_so_and_stay_within_what_a_score_can_be():
    few = stats.estimate([0.0, 0, 0, 0, 1], list("abcde"))
    assert (few.interval, stats.caveat(few.interval, few.prompts)) == ("few prompts", "5 prompts")
    assert few.ci_low < 0
    assert few.ci_high > 1
    bounded = stats.estimate([0.0, 0, 0, 0, 1], list("abcde"), (0.0, 1.0))
    assert (bounded.ci_low, bounded.ci_high) == (0.0, 1.0)
    difference = stats.compare_pairs([0.0] * 5, [0.0, 0, 0, 0, 1], list("abcde"))
    assert (difference.ci_low, difference.ci_high) == pytest.approx((0.2 - 0.5553, 0.2 + 0.5553), abs=1e-3)
    assert not difference.excludes_zero
    many = stats.estimate(np.arange(20.0), [f"{n:02}" for n in range(20)], (0.0, 19.0))
    assert (many.interval, stats.caveat(many.interval, many.prompts)) == ("bootstrap", "")
    assert (many.ci_low, many.ci_high) == stats.bootstrap_interval(np.arange(20.0))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1 + 0.2])
def test_few_equal_values_are_no_certainty(value):
    found = stats.estimate([value] * 5, list("abcde"), (0.0, 1.0))
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert stats.caveat(found.interval, found.prompts) == "5 prompts, all alike"
    assert stats.caveat(stats.estimate([value], ["a"]).interval, 1) == "1 prompt"


@pytest.mark.parametrize(("count", "shown"), [(1, False), (5, True), (30, True)])
def test_prompts_that_all_moved_alike_have_moved(count, shown):
    names = [f"{n:02}" for n in range(count)]
    moved = stats.compare_pairs([0.0] * count, [1.0] * count, names)
    assert moved.excludes_zero == shown
    assert not stats.compare_pairs([1.0] * count, [1.0] * count, names).excludes_zero


@pytest.mark.parametrize("prompts", [5, 10, 19])
@pytest.mark.parametrize("design", ["normal", "OCR share", "yes or no", "skewed", "paired, OCR", "paired, heavy tails"])
def test_few_prompts_cover_the_truth(design, prompts):
    """Nearly as often as announced, and far more often than a bootstrap does (78 to 91 in 100)."""
    trials = 1500
    paired = design.startswith("paired")
    held, _ = coverage(DESIGNS[design], prompts, trials, np.random.default_rng(21), paired=paired)
    lowest = 0.91 if prompts == 5 or design == "skewed" else 0.93
    assert held > lowest - 2.5 * math.sqrt(lowest * (1 - lowest) / trials)


def test_tasks_of_few_prompts_cover_their_mean():
    """As GenEval's six with five prompts of four images each."""
    random = np.random.default_rng(22)
    chances = (0.95, 0.7, 0.5, 0.8, 0.2, 0.4)
    held = 0
    for _ in range(600):
        found = stats.estimate_strata([random.binomial(4, chance, size=5) / 4 for chance in chances], (0.0, 1.0))
        assert found.interval == stats.FEW_PROMPTS
        held += found.ci_low <= np.mean(chances) <= found.ci_high
    assert held / 600 >= 0.93
