"""What the scores of a suite may claim: means, intervals and paired tests in which the prompt is the unit of chance.

Several images of one prompt share its difficulty, so they are first averaged to one number a prompt; everything after
that treats the P prompts as the sample. Two runs are compared on the same prompts and the same starting noise, cell by
cell, which removes the spread between prompts from the difference.

Shapes: N scored images (cells), P prompts, R resamples or flips. Resampling is seeded and worked off in chunks, so the
same scores always give the same interval and memory stays bounded whatever the suite's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
FLIPS = 10_000
SEED = 0
LEVEL = 0.95
# A two-sided 5 % test has 80 % power for a difference of 1.96 + 0.84 standard errors.
POWER_FACTOR = 2.8
# Two sums of the same numbers in another order differ by rounding; within this share they count as equal.
ROUNDING = 1e-9
CHUNK_ELEMENTS = 1 << 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """The mean of one reward over the prompts of a suite; spread and interval are NaN for a single prompt."""

    mean: float
    stderr: float
    ci_low: float
    ci_high: float
    prompts: int


@dataclass(frozen=True)
class Difference:
    """Run minus base over the same prompts and noise, in the reward's raw unit; `win_rate` counts ties as one half."""

    base_mean: float
    run_mean: float
    delta: float
    stderr: float
    ci_low: float
    ci_high: float
    p: float
    win_rate: float
    prompts: int

    @property
    def detectable(self) -> float:
        """The true difference that a design with this spread finds with 80 % power."""
        return detectable_difference(self.stderr)


def estimate(score_N: ArrayLike, prompt_N: Sequence[str]) -> Estimate:
    """Mean over prompts, its standard error sd(prompt means) / sqrt(P), and the 95 % percentile bootstrap interval.

    Raises ValueError for no scores at all (the mean of nothing is not zero) and for scores that are not finite.
    """
    mean_P = prompt_means(score_N, prompt_N)
    low, high = bootstrap_interval(mean_P)
    return Estimate(float(mean_P.mean()), standard_error(mean_P), low, high, len(mean_P))


def estimate_strata(strata: Sequence[ArrayLike]) -> Estimate:
    """The unweighted mean of several strata's means; each stratum is an array of values, one a prompt.

    The strata are fixed and their prompts are chance: the standard error is sqrt(sum of squared errors) / S, and the
    bootstrap draws prompts within each of the S strata. Spread and interval are NaN if one holds a single prompt.
    """
    values = [_nonempty(stratum) for stratum in strata]
    if not values:
        raise ValueError("there are no strata, and the mean of nothing is not a number")
    mean = float(np.mean([stratum.mean() for stratum in values]))
    stderr = float(np.sqrt(sum(standard_error(stratum) ** 2 for stratum in values)) / len(values))
    prompts = sum(map(len, values))
    if any(len(stratum) < 2 for stratum in values):
        return Estimate(mean, float("nan"), float("nan"), float("nan"), prompts)
    generator = np.random.default_rng(SEED)
    means_R = np.mean([_resampled_means(stratum, RESAMPLES, generator) for stratum in values], axis=0)
    return Estimate(mean, stderr, *_percentiles(means_R, LEVEL), prompts)


def compare_pairs(base_N: ArrayLike, run_N: ArrayLike, prompt_N: Sequence[str]) -> Difference:
    """Everything a comparison table says about two runs; entry n of both is the same prompt with the same noise."""
    base_P, run_P = prompt_means(base_N, prompt_N), prompt_means(run_N, prompt_N)
    delta_P = prompt_means(np.subtract(run_N, base_N), prompt_N)
    low, high = bootstrap_interval(delta_P)
    return Difference(
        base_mean=float(base_P.mean()),
        run_mean=float(run_P.mean()),
        delta=float(delta_P.mean()),
        stderr=standard_error(delta_P),
        ci_low=low,
        ci_high=high,
        p=sign_flip_p(delta_P),
        win_rate=win_rate(delta_P),
        prompts=len(delta_P),
    )


def prompt_means(score_N: ArrayLike, prompt_N: Sequence[str]) -> Floats:
    """One mean a prompt, ordered by prompt id, so that no result depends on the order of rows in a file.

    >>> prompt_means([1.0, 0.0, 3.0], ["b", "a", "b"]).tolist()
    [0.0, 2.0]
    """
    score = np.asarray(score_N, dtype=np.float64)
    if score.size == 0:
        raise ValueError("there are no scores, and the mean of nothing is not a number")
    if score.shape != (len(prompt_N),):
        raise ValueError(f"{score.shape} scores do not go with {len(prompt_N)} prompts")
    if not np.isfinite(score).all():
        raise ValueError("a score is not finite; failed scores have to be left out before averaging")
    names, index = np.unique(np.asarray(prompt_N), return_inverse=True)
    # Rows are summed in one order whatever the file's, so that equal sets of scores give equal bits.
    order = np.lexsort((score, index))
    total = np.bincount(index[order], weights=score[order], minlength=len(names))
    return total / np.bincount(index, minlength=len(names))


def standard_error(value_P: Floats) -> float:
    """sd / sqrt(P) with P - 1 degrees of freedom; NaN for a single prompt, whose spread nobody knows."""
    if len(value_P) < 2:
        return float("nan")
    return float(value_P.std(ddof=1) / np.sqrt(len(value_P)))


def bootstrap_interval(
    value_P: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval of the mean over prompts drawn with replacement; (NaN, NaN) for a single prompt.

    A single prompt would give an interval of width zero, which reads as certainty.
    """
    values = _nonempty(value_P)
    count = len(values)
    if count < 2:
        return float("nan"), float("nan")
    return _percentiles(_resampled_means(values, resamples, np.random.default_rng(seed)), level)


def sign_flip_p(delta_P: ArrayLike, *, flips: int = FLIPS, seed: int = SEED) -> float:
    """Two-sided p of "the sign of every prompt's difference is a coin's", by random flips.

    The observed signs count as one flip (Phipson and Smyth 2010), so p is never zero: its floor is 1 / (flips + 1).
    """
    deltas = _nonempty(delta_P)
    generator = np.random.default_rng(seed)
    total = deltas.sum()
    as_extreme = abs(total) - ROUNDING * np.abs(deltas).sum()
    reached = 0
    for rows in _chunks(flips, len(deltas)):
        # sum(sign * d) = 2 * (sum of d whose coin fell heads) - sum(d)
        heads = generator.integers(0, 2, size=(rows, len(deltas)), dtype=np.int8)
        reached += int((np.abs(2 * (heads @ deltas) - total) >= as_extreme).sum())
    return (1 + reached) / (1 + flips)


def win_rate(delta_P: ArrayLike) -> float:
    """Share of prompts on which the run scored higher; an equal score is half a win.

    >>> win_rate([0.5, 0.0, -1.0, 2.0])
    0.625
    """
    deltas = _nonempty(delta_P)
    tolerance = ROUNDING * np.abs(deltas).max()
    return float(((deltas > tolerance) + 0.5 * (np.abs(deltas) <= tolerance)).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: the family-wise error stays below the threshold.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted.tolist()


def detectable_difference(stderr: float) -> float:
    """The true difference found with 80 % power at the 5 % level: 2.8 times the paired standard error."""
    return POWER_FACTOR * stderr


def _nonempty(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("there are no prompts, and the mean of nothing is not a number")
    return array


def _resampled_means(value_P: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    count = len(value_P)
    return np.concatenate(
        [value_P[generator.integers(0, count, size=(rows, count))].mean(axis=1) for rows in _chunks(resamples, count)]
    )


def _percentiles(means_R: Floats, level: float) -> tuple[float, float]:
    low, high = np.percentile(means_R, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _chunks(rows: int, width: int) -> Iterator[int]:
    """Cut `rows` rows of `width` numbers into pieces of about CHUNK_ELEMENTS numbers.

    Pieces are multiples of 64 rows: coins are dealt from whole random words, so such cuts leave the stream as it is.
    """
    step = 64 * max(1, CHUNK_ELEMENTS // (64 * width))
    for start in range(0, rows, step):
        yield min(step, rows - start)
