"""How often intervals, verdicts and the power line keep their word, in simulated evaluations.

    python -m benchmarks.reading.coverage

Every number goes through the functions that `dgpo compare` uses. The designs are made up; their names say what they
resemble.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.reading.compare import NO_DIFFERENCE, SIGNIFICANCE, judge
from benchmarks.reading.markdown import render_markdown
from benchmarks.reading.power import detectable_difference
from benchmarks.reading.stats import Difference, Floats, compare_pairs, holm, mean_interval

SEEDS = 4
LETTERS = 6
REWARDS = 5
SAMPLE = 200_000
Draw = Callable[[np.random.Generator, int], Floats]
PairDraw = Callable[[np.random.Generator, int, float], Floats]


def images_read(random: np.random.Generator, ability_P: Floats) -> Floats:
    """OCR shares, a mean of SEEDS images per prompt: read as a whole as often as the prompt's ability, else in part."""
    ability_PS = np.repeat(ability_P[:, None], SEEDS, axis=1)
    part_PS = random.binomial(LETTERS, 0.35 + 0.4 * ability_PS) / LETTERS
    return np.where(random.random(ability_PS.shape) < ability_PS, 1.0, part_PS).mean(axis=1)


def pair_read(random: np.random.Generator, prompts: int, gain: float) -> Floats:
    """Differences of OCR shares: the run reads `gain` of what the base fails to read."""
    ability_P = random.beta(1.5, 1, prompts)
    return images_read(random, ability_P + gain * (1 - ability_P)) - images_read(random, ability_P)


def pair_normal(random: np.random.Generator, prompts: int, gain: float) -> Floats:
    return random.normal(gain, 1, prompts)


DESIGNS: dict[str, Draw] = {
    "normal": lambda random, prompts: random.normal(size=prompts),
    "OCR share": lambda random, prompts: images_read(random, random.beta(1.5, 1, prompts)),
    "yes or no": lambda random, prompts: random.binomial(SEEDS, random.random(prompts)) / SEEDS,
    "nearly always yes": lambda random, prompts: random.binomial(SEEDS, random.beta(9, 1, prompts)) / SEEDS,
    "skewed": lambda random, prompts: random.exponential(size=prompts),
    "paired, normal": lambda random, prompts: random.normal(size=prompts),
    "paired, OCR": lambda random, prompts: pair_read(random, prompts, 0.3),
    "paired, heavy tails": lambda random, prompts: random.standard_t(3, prompts),
}
GAINS: dict[str, PairDraw] = {"normal": pair_normal, "OCR": pair_read}


def coverage(
    draw: Draw, prompts: int, trials: int, random: np.random.Generator, *, paired: bool
) -> tuple[float, float]:
    """Share of the intervals that hold the truth, and share of the trials that have an interval."""
    truth = draw(random, SAMPLE).mean()
    found = [mean_interval(draw(random, prompts), symmetric=paired) for _ in range(trials)]
    intervals = [(low, high) for low, high, _ in found if low == low]
    held = sum(low - 1e-9 <= truth <= high + 1e-9 for low, high in intervals)
    return held / len(intervals), len(intervals) / trials


def equal_models(prompts: int, tables: int, random: np.random.Generator) -> tuple[float, float, float]:
    """Of equally good models: tables with any verdict, rows with p below 0.05, rows whose interval excludes 0."""
    shown = below = excluding = 0
    for _ in range(tables):
        common_P = random.normal(size=prompts)
        rewards = [0.6 * common_P + 0.8 * random.normal(size=prompts) for _ in range(REWARDS - 1)]
        found = [_difference(delta_P) for delta_P in (*rewards, pair_read(random, prompts, 0.0))]
        shown += any(verdict != NO_DIFFERENCE for verdict in _verdicts(found))
        below += sum(one.p < SIGNIFICANCE for one in found)
        excluding += sum(one.excludes_zero for one in found)
    return shown / tables, below / (tables * REWARDS), excluding / (tables * REWARDS)


def power(design: str, prompts: int, rewards: int, trials: int, random: np.random.Generator) -> float | None:
    """Share of trials in which the one reward that gained what the power line names is `better`, the others being
    equal; None where it names nothing, or more than this design can gain."""
    draw = GAINS[design]
    gain = _promised_gain(draw, prompts, rewards, random)
    if gain is None:
        return None
    found = 0
    for _ in range(trials):
        others = [_difference(random.normal(size=prompts)) for _ in range(rewards - 1)]
        found += _verdicts([_difference(draw(random, prompts, gain)), *others])[0] == "better"
    return found / trials


def _promised_gain(draw: PairDraw, prompts: int, rewards: int, random: np.random.Generator) -> float | None:
    """The smallest gain whose difference is one that the power line names, with its own spread and ties."""

    def is_named(gain: float) -> bool:
        delta_P = draw(random, SAMPLE, gain)
        differing = int(prompts * (delta_P != 0).mean())
        size = detectable_difference(delta_P.std() / np.sqrt(prompts), differing, rewards, SIGNIFICANCE)
        return size is not None and delta_P.mean() >= size

    low, high = 0.0, 1.0 if draw is pair_read else 10.0
    if not is_named(high):
        return None
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if is_named(middle) else (middle, high)
    return high


def _difference(delta_P: NDArray[np.float64]) -> Difference:
    names = [f"{place:04}" for place in range(len(delta_P))]
    return compare_pairs(np.zeros(len(delta_P)), delta_P, names)


def _verdicts(found: Sequence[Difference]) -> list[str]:
    adjusted = holm([one.p for one in found])
    return [judge(one, p, True) for one, p in zip(found, adjusted, strict=True)]


def _tables(prompts: Sequence[int], trials: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    lines: list[tuple[object, ...]] = []
    for count in prompts:
        cells = [
            coverage(draw, count, trials, random, paired=name.startswith("paired")) for name, draw in DESIGNS.items()
        ]
        lines.append((count, *(f"{held:.1%}" + (f" ({had:.0%})" if had < 1 else "") for held, had in cells)))
    yield "coverage of the 95 % interval (share of trials that have one)\n"
    yield render_markdown(("prompts", *DESIGNS), lines)
    lines = [(count, *(f"{share:.1%}" for share in equal_models(count, trials, random))) for count in prompts]
    yield f"equal models, {REWARDS} rewards: how often there is a verdict\n"
    yield render_markdown(("prompts", "any verdict", "p < 0.05", "interval excludes 0"), lines)
    kinds = [(design, rewards) for design in GAINS for rewards in (1, REWARDS)]
    lines = [
        (
            count,
            *(
                "none promised" if one is None else f"{one:.1%}"
                for one in (power(design, count, rewards, trials, random) for design, rewards in kinds)
            ),
        )
        for count in prompts
    ]
    yield "how often it says `better` where the power line promises 80 %\n"
    yield render_markdown(("prompts", *(f"{design}, {rewards} rewards" for design, rewards in kinds)), lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Simulated coverage, false verdicts and power.")
    parser.add_argument("--prompts", type=int, nargs="+", default=[5, 10, 20, 50, 200])
    parser.add_argument("--trials", type=int, default=1000)
    given = parser.parse_args(words)
    for part in _tables(given.prompts, given.trials):
        print(part, flush=True)


if __name__ == "__main__":
    main()
