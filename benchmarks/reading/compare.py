"""compare.csv: is one run better than another, on the same prompts and the same starting noise?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.drawing import drawn_otherwise, precision_of
from benchmarks.harness.record import domain_of
from benchmarks.reading.markdown import render_markdown
from benchmarks.reading.power import detectable_difference, smallest_p
from benchmarks.reading.results import Results, read_results, shared_rewards
from benchmarks.reading.stats import FEW_SENTENCE, NO_INTERVAL, Difference, caveat, compare_pairs, holm
from rewards.errors import UsageError, suggestion
from rewards.files import replace_file
from rewards.numbers import format_interval, format_number

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "base", "run", "suite", "reward", "domain", "base_mean", "run_mean", "delta", "stderr", "ci_low", "ci_high", "p",
    "p_holm", "win_rate", "prompts", "verdict", "interval",
)  # fmt: skip
SIGNIFICANCE = 0.05
NO_DIFFERENCE = "no difference shown"
NAMES = 3  # so many of the columns that a person reads hold names from outside


def compare(
    folders: Sequence[Path], margins: Mapping[str, float] | None = None, *, any_sampler: bool = False
) -> pandas.DataFrame:
    """Every run against the first folder, one row per run and reward, with the columns of compare.csv.

    `margins` maps a reward (ocr or ocr@1) to the loss that one is ready to accept, in the reward's raw unit; a run
    whose interval stays above it is "not worse by more than" that. `delta` is always run minus base; `win_rate` is the
    share of prompts on which the run is better (higher, for a descriptive reward), ties counting one half. Holm's
    correction runs over the rewards of one pair; intervals are each reward's own. Images without a score in either run
    are left out of both. `attrs["notes"]` of the table says how many, and whatever else a reader should know;
    `attrs["power"]` what this design could have shown.

    Raises UsageError, with how to mend it, where folders were not measured alike; with `any_sampler`, other settings of
    the sampler or another precision are only noted.
    """
    import pandas

    folders = [Path(folder) for folder in folders]
    if len(folders) < 2:
        raise UsageError("A comparison needs at least two results folders; the first is the one compared with.")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("A results folder was named twice; a run compared with itself shows nothing.")
    base, *runs = read_results(folders)
    shared = [shared_rewards(base, run, any_sampler=any_sampler) for run in runs]
    margin_of = _resolve_margins(margins or {}, base, {key for keys in shared for key in keys})
    rows: list[list[str | float | int]] = []
    notes: list[str] = []
    pairs_of: dict[str, list[_Pair]] = {}
    for run, rewards in zip(runs, shared, strict=True):
        pairs = pairs_of[run.name] = [_compare_one(base, run, reward) for reward in rewards]
        notes += _notes(base, run, pairs)
        rows += [_row(base, run, pair, margin_of.get(pair.reward)) for pair in _adjust(pairs)]
    table = pandas.DataFrame(rows, columns=list(COLUMNS))
    few = any(map(caveat, table["interval"], table["prompts"]))
    table.attrs["notes"] = [*dict.fromkeys(notes), *([FEW_SENTENCE] if few else [])]
    table.attrs["power"] = _tell_power(pairs_of)
    return table


def write_comparison(table: pandas.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, table.to_csv(index=False, lineterminator="\n").encode("utf-8"), named=True)


def comparison_cells(table: pandas.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The names of the columns that a person reads, and the cells of each row."""
    head = ["base", "run", "reward", "domain", "base mean", "run mean", "delta [95 %]", "p (Holm)", "wins", "verdict"]
    body = [
        [
            str(row["base"]),
            str(row["run"]),
            str(row["reward"]),
            str(row["domain"]),
            format_number(row["base_mean"]),
            format_number(row["run_mean"]),
            _tell_delta(row),
            "<0.001" if row["p_holm"] < 0.001 else format_number(row["p_holm"]),
            "-" if math.isnan(row["win_rate"]) else f"{row['win_rate']:.0%}",
            str(row["verdict"]),
        ]
        for row in table.to_dict("records")
    ]
    return head, body


def render_comparison(table: pandas.DataFrame) -> str:
    """The table as Markdown."""
    head, body = comparison_cells(table)
    return render_markdown(head, body, words=NAMES, padded=True).rstrip()


def judge(difference: Difference, p_holm: float, higher_is_better: bool | None, margin: float | None = None) -> str:
    """The verdict in words.

    A difference counts when the adjusted p is below 0.05 and the interval, where there is one, excludes 0. With a
    margin, a run whose whole interval loses less than the margin is "not worse by more than" it, even if it is shown to
    lose a little: that much was declared acceptable. Descriptive rewards are higher or lower, never better or worse.
    """
    sign = -1 if higher_is_better is False else 1
    gain = sign * difference.delta
    shown = p_holm < SIGNIFICANCE and difference.excludes_zero
    if higher_is_better is None:
        return ("higher" if gain > 0 else "lower") if shown else NO_DIFFERENCE
    if shown and gain > 0:
        return "better"
    if margin is not None and min(sign * difference.ci_low, sign * difference.ci_high) > -margin:
        return f"not worse by more than {margin:g}"
    return "worse" if shown else NO_DIFFERENCE


@dataclass(frozen=True)
class _Pair:
    """One reward of one pair of runs; `difference` is None if no image has a score in both."""

    reward: str
    difference: Difference | None
    cells: int
    left_out: int
    p_holm: float = math.nan


def _compare_one(base: Results, run: Results, reward: str) -> _Pair:
    there, here = base.scores[reward], run.scores[reward]
    scores = [(cell[0], there[cell].score, here[cell].score) for cell in sorted(there)]
    kept = [(prompt, a, b) for prompt, a, b in scores if a is not None and b is not None]
    left_out = len(scores) - len(kept)
    if not kept:
        return _Pair(reward, None, len(scores), left_out)
    prompts, base_N, run_N = zip(*kept, strict=True)
    found = compare_pairs(base_N, run_N, prompts, base.card(reward)["bounds"])
    return _Pair(reward, found, len(scores), left_out)


def _adjust(pairs: Sequence[_Pair]) -> list[_Pair]:
    measured = [pair for pair in pairs if pair.difference is not None]
    adjusted = holm([pair.difference.p for pair in measured if pair.difference is not None])
    p_of = {pair.reward: p for pair, p in zip(measured, adjusted, strict=True)}
    return [replace(pair, p_holm=p_of.get(pair.reward, math.nan)) for pair in pairs]


def _row(base: Results, run: Results, pair: _Pair, margin: float | None) -> list[str | float | int]:
    trained_on = run.trained_on if run.trained_on is not None else base.trained_on
    head = [base.name, run.name, base.suite, pair.reward, domain_of(pair.reward, trained_on)]
    found = pair.difference
    if found is None:
        return [*head, *[math.nan] * 9, 0, NO_DIFFERENCE, NO_INTERVAL]
    higher_is_better = base.card(pair.reward)["higher_is_better"]
    wins = 1 - found.win_rate if higher_is_better is False else found.win_rate
    numbers = [found.base_mean, found.run_mean, found.delta, found.stderr, found.ci_low, found.ci_high, found.p]
    verdict = judge(found, pair.p_holm, higher_is_better, margin)
    return [*head, *numbers, pair.p_holm, wins, found.prompts, verdict, found.interval]


def _notes(base: Results, run: Results, pairs: Sequence[_Pair]) -> list[str]:
    notes = [
        f"{pair.reward}: {pair.left_out} of {pair.cells} images have no score in {base.name} or {run.name} and are left"
        " out of both."
        for pair in pairs
        if pair.left_out
    ]
    for one, other in ((base, run), (run, base)):
        alone = [key for key in one.scores if key not in other.scores]
        if alone:
            notes.append(f"{', '.join(alone)}: scored in {one.name} but not in {other.name}, so not compared.")
        if one.record.get("sampler") is None:
            notes.append(f"{one.name}: nobody recorded how its images were drawn, so starting noise may not be shared.")
        elif precision_of(one.record) is None:
            notes.append(f"{one.name}: the precision in which its images were drawn was not recorded.")
    differing = drawn_otherwise(base.record, run.record)
    if differing:
        notes.append(
            f"{base.name} and {run.name} were drawn by other sampler settings ({', '.join(differing)}), which may make"
            " a difference as the model does."
        )
    return notes


def _tell_power(pairs_of: Mapping[str, Sequence[_Pair]]) -> list[str]:
    """What this design would have shown, in one sentence; and in another what it could not have shown at all."""
    shown, hidden = [], []
    for run, pairs in pairs_of.items():
        measured = [(pair.reward, pair.difference) for pair in pairs if pair.difference is not None]
        tests, finds = len(measured), {}
        for reward, found in measured:
            size = detectable_difference(found.stderr, found.differing, tests, SIGNIFICANCE)
            if size is None:
                hidden.append(
                    f"{reward} of {run} ({found.differing} of {found.prompts} prompts differ, with which p is at least"
                    f" {smallest_p(found.differing, tests):.2g})"
                )
            elif size > 0:
                finds[reward] = f"{reward} {size:.2g}"
        shown += [f"{run}: {', '.join(finds.values())}"] if finds else []
    sentences = []
    if shown:
        sentences.append(
            "A true difference of this size is shown at least four times in five, if prompts differ as much as these:"
            f" {'; '.join(shown)}. A smaller one may be there unseen."
        )
    if hidden:
        sentences.append(f"No difference could have been shown, however large: {'; '.join(hidden)}.")
    return sentences


def _resolve_margins(margins: Mapping[str, float], base: Results, rewards: set[str]) -> dict[str, float]:
    """Margins by reward key; a bare name stands for all variants of that reward."""
    resolved = {}
    for name, margin in margins.items():
        keys = [key for key in sorted(rewards) if name in (key, base.card(key)["name"])]
        if not keys:
            choices = rewards | {base.card(key)["name"] for key in rewards}
            raise UsageError(f'A margin was given for "{name}", which is not compared here.{suggestion(name, choices)}')
        if not (math.isfinite(margin) and margin > 0):
            raise UsageError(f"The margin of {name} is {margin:g}; it has to be a loss above 0 in the reward's unit.")
        descriptive = [key for key in keys if base.card(key)["higher_is_better"] is None]
        if descriptive:
            raise UsageError(f"{descriptive[0]} only describes an image, so there is no worse for a margin to bound.")
        resolved.update(dict.fromkeys(keys, margin))
    return resolved


def _tell_delta(row: Mapping[str, Any]) -> str:
    """The difference with its interval, and with what has to stand beside that."""
    words = format_interval(row["delta"], row["ci_low"], row["ci_high"], "+")
    beside = caveat(row["interval"], row["prompts"])
    return f"{words} ({beside})" if beside else words
