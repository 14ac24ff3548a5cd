"""What a comparison could have seen: the true difference that it shows four times in five, or that it cannot at all."""

from __future__ import annotations

import math

from benchmarks.reading.student import student_quantile

POWER_QUANTILE = 0.8416  # of the normal distribution, at 80 %
MOST_SIGNS = 60  # beyond so many prompts the levels that a sign-flip test can reach lie as close as makes no difference


def smallest_p(prompts: int, tests: int = 1) -> float:
    """The smallest p of a sign-flip test, reached where all prompts agree, times the `tests` of Holm's first step.

    >>> smallest_p(5), smallest_p(5, tests=5)
    (0.0625, 0.3125)
    """
    return min(1.0, tests * 2.0 ** (1 - prompts))


def detectable_difference(stderr: float, prompts: int, tests: int, significance: float) -> float | None:
    """The true difference that a sign-flip test, corrected over so many tests, shows in at least 80 of 100 trials;
    None where it can show none, however large.

    Holm compares the smallest p with significance / tests, and no p with less; so the promise is made for that level.
    A test of P prompts reaches p in steps of 2^(1 - P): the level is put half a step below the last one that counts.
    For a difference of d standard errors, the t statistic of P - 1 degrees of freedom is above its critical value c in
    80 of 100 trials if d = c + 0.84 sqrt(1 + c^2 / (2 (P - 1))) (Johnson and Welch 1940): 2.8 for many prompts and one
    test. That the promise is kept is simulated: see docs/log.md.
    """
    step = 2.0 ** (1 - min(prompts, MOST_SIGNS))
    steps = math.ceil(significance / tests / step) - 1  # p has to be below the significance, not at it
    if prompts < 2 or steps < 1:
        return None
    critical = student_quantile(prompts - 1, 1 - (steps - 0.5) * step)
    return stderr * (critical + POWER_QUANTILE * math.sqrt(1 + critical**2 / (2 * (prompts - 1))))
