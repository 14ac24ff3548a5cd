"""What the scores of a suite may claim: means, intervals and paired tests in which the prompt is the unit of chance.

Several images of one prompt share its difficulty, so they are first averaged to one number a prompt; everything after
that treats the P prompts as the sample. Two runs are compared on the same prompts and the same starting noise, cell by
cell, which removes the spread between prompts from the difference. From FEW prompts on intervals are a bootstrap's;
with fewer they are those of `student`, and whoever shows one says so.

Shapes: N scored images (cells), P prompts, R resamples or flips. Resampling is seeded and worked off in chunks, so the
same scores always give the same interval and memory stays bounded whatever the suite's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.reading.student import ROUNDING, moments_of_average, moments_of_mean, student_interval

# Below this many prompts a bootstrap's interval covers the truth too seldom: see the table in docs/evaluation.md.
FEW = 20
RESAMPLES = 10_000
FLIPS = 10_000
SEED = 0
LEVEL = 0.95
CHUNK_ELEMENTS = 1 << 20

BOOTSTRAP, FEW_PROMPTS, NO_INTERVAL = "bootstrap", "few prompts", "none"
FEW_SENTENCE = (
    f"Fewer than {FEW} prompts make wide intervals, which hold the truth a little less often than they say where scores"
    " are skewed (about nine times in ten with five prompts). Take more prompts before you rest a claim on one."
)

Floats = NDArray[np.float64]
Bounds: TypeAlias = Sequence[float | None]
OPEN: Bounds = (None, None)


@dataclass(frozen=True)
class Estimate:
    """The mean of one reward over the prompts of a suite; spread and interval are NaN for a single prompt.

    `interval` says how the interval was made: by BOOTSTRAP, from FEW_PROMPTS, or NO_INTERVAL at all.
    """

    mean: float
    stderr: float
    ci_low: float
    ci_high: float
    prompts: int
    interval: str


@dataclass(frozen=True)
class Difference:
    """Run minus base over the same prompts and noise, in the reward's raw unit.

    `win_rate` counts ties as one half; `differing` counts the prompts that are no ties. `interval` as in Estimate.
    """

    base_mean: float
    run_mean: float
    delta: float
    stderr: float
    ci_low: float
    ci_high: float
    p: float
    win_rate: float
    prompts: int
    interval: str
    differing: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does; where several prompts moved by one and the same amount, whether that is not 0."""
        if math.isnan(self.ci_low):
            return self.prompts > 1 and self.delta != 0
        return self.ci_low > 0 or self.ci_high < 0


def estimate(score_N: ArrayLike, prompt_N: Sequence[str], bounds: Bounds = OPEN) -> Estimate:
    """Mean over prompts, its standard error sd(prompt means) / sqrt(P), and its 95 % interval within the `bounds`.

    Raises ValueError for no scores at all (the mean of nothing is not zero) and for scores that are not finite.
    """
    mean_P = prompt_means(score_N, prompt_N)
    low, high, kind = mean_interval(mean_P, bounds)
    return Estimate(float(mean_P.mean()), standard_error(mean_P), low, high, len(mean_P), kind)


def estimate_strata(strata: Sequence[ArrayLike], bounds: Bounds = OPEN) -> Estimate:
    """The unweighted mean of several strata's means; each stratum is an array of values, one per prompt.

    The strata are fixed and their prompts are chance: the standard error is sqrt(sum of squared errors) / S, and the
    bootstrap draws prompts within each of the S strata. Spread and interval are NaN if one holds a single prompt; one
    of few prompts makes the interval one of few prompts.
    """
    values = [_nonempty(stratum) for stratum in strata]
    if not values:
        raise ValueError("there are no strata, and the mean of nothing is not a number")
    mean = float(np.mean([stratum.mean() for stratum in values]))
    stderr = float(np.sqrt(sum(standard_error(stratum) ** 2 for stratum in values)) / len(values))
    prompts = sum(map(len, values))
    if any(len(stratum) < 2 for stratum in values):
        return Estimate(mean, math.nan, math.nan, math.nan, prompts, NO_INTERVAL)
    if min(map(len, values)) < FEW:
        moments = moments_of_average([moments_of_mean(stratum) for stratum in values])
        low, high, kind = _few(*student_interval(mean, moments, LEVEL), bounds)
        return Estimate(mean, stderr, low, high, prompts, kind)
    generator = np.random.default_rng(SEED)
    means_R = np.mean([_resampled_means(stratum, RESAMPLES, generator) for stratum in values], axis=0)
    return Estimate(mean, stderr, *_percentiles(means_R, LEVEL), prompts, BOOTSTRAP)


def compare_pairs(base_N: ArrayLike, run_N: ArrayLike, prompt_N: Sequence[str], bounds: Bounds = OPEN) -> Difference:
    """Everything a comparison table says about two runs; entry n of both is the same prompt with the same noise.

    `bounds` are those of the scores, beyond whose width no difference can be.
    """
    base_P, run_P = prompt_means(base_N, prompt_N), prompt_means(run_N, prompt_N)
    delta_P = prompt_means(np.subtract(run_N, base_N), prompt_N)
    lowest, highest = bounds
    widest = None if lowest is None or highest is None else highest - lowest
    low, high, kind = mean_interval(delta_P, (None if widest is None else -widest, widest), symmetric=True)
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
        interval=kind,
        differing=int((~_ties(delta_P)).sum()),
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


def mean_interval(value_P: Floats, bounds: Bounds = OPEN, *, symmetric: bool = False) -> tuple[float, float, str]:
    """The 95 % interval of the mean over prompts, and how it was made.

    Values that are `symmetric` about their mean, as the sign-flip test takes differences to be, get Student's plain
    interval where they are few. There is none, (NaN, NaN), for a single prompt, nor for fewer than FEW whose values are
    all equal: a width of zero would read as certainty.
    """
    if len(value_P) >= FEW:
        return *bootstrap_interval(value_P), BOOTSTRAP
    if len(value_P) < 2:
        return math.nan, math.nan, NO_INTERVAL
    moments = moments_of_mean(value_P)
    if symmetric:
        moments = replace(moments, third=0.0)
    return _few(*student_interval(float(value_P.mean()), moments, LEVEL), bounds)


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
    """Two-sided p of "the sign of every prompt's difference is a coin's": exact where there are no more than `flips`
    ways for the signs to fall, otherwise by so many random ones.

    Of random flips the observed signs count as one (Phipson and Smyth 2010), so p is never zero: its floor is
    1 / (flips + 1), and that of P prompts is 2 / 2^P.
    """
    deltas = _nonempty(delta_P)
    count = len(deltas)
    total = deltas.sum()
    as_extreme = abs(total) - ROUNDING * np.abs(deltas).sum()

    def reached(heads_RP: NDArray[np.integer]) -> int:
        # sum(sign * d) = 2 * (sum of d whose coin fell heads) - sum(d)
        return int((np.abs(2 * (heads_RP @ deltas) - total) >= as_extreme).sum())

    if 2**count <= flips:
        return reached(np.arange(2**count)[:, None] >> np.arange(count) & 1) / 2**count
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(0, 2, size=(rows, count), dtype=np.int8) for rows in _chunks(flips, count))
    return (1 + sum(map(reached, drawn))) / (1 + flips)


def win_rate(delta_P: ArrayLike) -> float:
    """Share of prompts on which the run scored higher; an equal score is half a win.

    >>> win_rate([0.5, 0.0, -1.0, 2.0])
    0.625
    """
    deltas = _nonempty(delta_P)
    return float(np.where(_ties(deltas), 0.5, deltas > 0).mean())


def caveat(interval: str, prompts: int) -> str:
    """What has to stand beside an interval, or in its place, where few prompts made it; otherwise nothing.

    >>> caveat(FEW_PROMPTS, 5), caveat(NO_INTERVAL, 5), caveat(BOOTSTRAP, 200)
    ('5 prompts', '5 prompts, all alike', '')
    """
    if interval == BOOTSTRAP or not prompts:
        return ""
    counted = "1 prompt" if prompts == 1 else f"{prompts} prompts"
    return counted if interval == FEW_PROMPTS or prompts == 1 else f"{counted}, all alike"


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


def _nonempty(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("there are no prompts, and the mean of nothing is not a number")
    return array


def _ties(delta_P: Floats) -> NDArray[np.bool_]:
    return np.abs(delta_P) <= ROUNDING * np.abs(delta_P).max()


def _few(low: float, high: float, bounds: Bounds) -> tuple[float, float, str]:
    """An interval from few prompts, which unlike a bootstrap's may reach beyond what a score can be."""
    if math.isnan(low):
        return low, high, NO_INTERVAL
    lowest, highest = bounds
    kept = low if lowest is None else max(low, lowest), high if highest is None else min(high, highest)
    return *kept, FEW_PROMPTS


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
