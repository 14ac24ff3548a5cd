"""Intervals from few prompts: Student's t, lengthened on the side to which the values are skewed.

A bootstrap over few prompts is too narrow: it divides by P where P - 1 is meant, and never looks beyond the values that
happen to be there. Student's t mends that for symmetric values. For skewed ones Johnson (1978, "Modified t tests and
confidence intervals for asymmetrical populations") moves the interval by k3 (1 + 2 t^2) / (6 s^2); here only the end on
that side is moved, since from few prompts the skew itself is hardly known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Sums of the same numbers in another order differ by rounding; within this share they count as equal.
ROUNDING = 1e-9
GRID = 20_001


@dataclass(frozen=True)
class Moments:
    """What an interval needs to know of an estimate: its own variance and third cumulant, and degrees of freedom."""

    variance: float
    third: float
    freedom: float


def moments_of_mean(value_P: NDArray[np.float64]) -> Moments:
    """Of the mean of P >= 2 independent values, by their unbiased moments; two values show no skew.

    Values that differ by the rounding of their sums only are equal, and have a variance of 0.
    """
    count = len(value_P)
    if np.ptp(value_P) <= ROUNDING * np.abs(value_P).max():
        return Moments(0.0, 0.0, count - 1)
    away_P = value_P - value_P.mean()
    third = count * float((away_P**3).sum()) / ((count - 1) * (count - 2)) if count > 2 else 0.0
    return Moments(float(value_P.var(ddof=1)) / count, third / count**2, count - 1)


def moments_of_average(parts: Sequence[Moments]) -> Moments:
    """Of the unweighted average of independent estimates, with Welch and Satterthwaite's degrees of freedom."""
    count = len(parts)
    variance = sum(part.variance for part in parts)
    spread = sum(part.variance**2 / part.freedom for part in parts)
    freedom = variance**2 / spread if spread else min(part.freedom for part in parts)
    return Moments(variance / count**2, sum(part.third for part in parts) / count**3, freedom)


def student_interval(estimate: float, moments: Moments, level: float) -> tuple[float, float]:
    """The interval about an estimate; (NaN, NaN) where all values are equal, as nothing then tells the spread."""
    if moments.variance == 0:
        return math.nan, math.nan
    t = student_quantile(moments.freedom, level)
    half = t * math.sqrt(moments.variance)
    skew = moments.third * (1 + 2 * t * t) / (6 * moments.variance)
    return estimate - half + min(skew, 0.0), estimate + half + max(skew, 0.0)


@cache
def student_quantile(freedom: float, level: float) -> float:
    """What |t| stays below with probability `level`, for 1 or more degrees of freedom, whole or not.

    With t = sqrt(freedom) tan(a), the density of the angle a is proportional to cos(a)^(freedom - 1).

    >>> round(student_quantile(4, 0.95), 3), round(student_quantile(1, 0.5), 3)
    (2.776, 1.0)
    """
    angle = np.linspace(0.0, math.pi / 2, GRID)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(level * mass[-1], mass, angle)))
