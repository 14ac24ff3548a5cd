"""What a table of means does not show, as findings a person can judge.

Did the model see the suite's prompts in training? How many images could not be scored? Did the pictures grow dark, bare
or all alike while the reward rose? Were two folders scored alike? And in one line: was a reward over-optimised?

Bounds used here are ours, named below and told in the findings; they sort what is worth a look, and prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.harness.record import DRAWN
from benchmarks.harness.store import OK
from benchmarks.reading.compare import NO_DIFFERENCE, SIGNIFICANCE, compare
from benchmarks.reading.image_statistics import BETWEEN_SEEDS, FIGURES, by_prompt, look_through
from benchmarks.reading.overlap import read_training_prompts, seen_in_training
from benchmarks.reading.power import smallest_p
from benchmarks.reading.results import Results, read_results, tell_engine
from benchmarks.reading.stats import Difference, compare_pairs, holm
from benchmarks.reading.training_run import find_training_run
from rewards.errors import UsageError
from rewards.numbers import format_interval, format_number

FINE, LOOK, BAD, UNKNOWN = "fine", "look", "bad", "unknown"
VERDICTS = (FINE, LOOK, BAD, UNKNOWN)
# More of a suite than this in training is a test on training data; less is worth a look.
SEEN_SHARE = 0.01
# More of one reward's scores than this missing, and its mean may stand for other images than the suite's.
FAILED_SHARE = 0.05
# Near-identical pairs in more than half of a prompt's, or less than half of the base's diversity: seeds show one image.
COLLAPSED = 0.5
SHOWN = 5

# A run's figures about its pictures by name, each by prompt.
_Figures: TypeAlias = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it was, how it stands, a sentence about it, and the numbers behind it.

    `verdict` is fine, look (a person should), bad, or unknown (nothing here tells). `rows` are cells of text under the
    names in `head`; both are empty where the sentence says all.
    """

    title: str
    verdict: str
    sentence: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS, self.verdict
        assert all(len(row) == len(self.head) for row in self.rows), "a cell for each name"


def examine(
    folders: Sequence[Path],
    base: Path | None = None,
    *,
    margins: Mapping[str, float] | None = None,
    any_sampler: bool = False,
) -> list[Finding]:
    """The findings about results folders, each compared with `base` (the first one, if none is named).

    `margins` are the losses one is ready to accept, and `any_sampler` allows other settings, as in `compare`. The most
    serious question comes first, whatever its answer: over-optimisation, prompts seen in training, scores that are not
    there, how it was scored, the pictures.
    """
    folders = [Path(folder) for folder in folders]
    if not folders and base is None:
        raise UsageError("There is no results folder to look at.")
    if base is not None:
        folders = [Path(base), *(folder for folder in folders if folder.resolve() != Path(base).resolve())]
    runs = read_results(folders)
    return [
        find_over_optimisation(runs, margins or {}, any_sampler=any_sampler),
        find_overlap(runs),
        find_failures(runs),
        find_rulers(runs),
        *find_pictures(runs),
    ]


def find_over_optimisation(
    runs: Sequence[Results], margins: Mapping[str, float], *, any_sampler: bool = False
) -> Finding:
    """In one line: did the rewards trained on rise while another one fell?"""
    title = "Over-optimisation"
    if len(runs) < 2:
        return Finding(title, UNKNOWN, "There is one folder, and over-optimisation shows against a base model only.")
    try:
        table = compare([run.folder for run in runs], margins, any_sampler=any_sampler)
    except UsageError as error:
        return Finding(title, UNKNOWN, f"These folders cannot be compared: {error}")
    describes = {key for run in runs for key in run.scores if run.card(key)["higher_is_better"] is None}
    lines = [line for line in table.to_dict("records") if line["reward"] not in describes]
    if not lines:
        return Finding(title, UNKNOWN, "Only rewards that describe an image are compared, and they know no better.")
    judged = [
        judge_over_optimisation(name, [line for line in lines if line["run"] == name], margins)
        for name in dict.fromkeys(line["run"] for line in lines)
    ]
    rows = tuple(
        (
            line["run"],
            line["reward"],
            line["domain"],
            format_interval(line["delta"], line["ci_low"], line["ci_high"], "+"),
            line["verdict"],
        )
        for line in sorted(lines, key=lambda line: line["domain"])
    )
    sentence = " ".join(sentence for _, sentence in judged)
    head = ("run", "reward", "domain", "change [95 %]", "verdict")
    return Finding(title, _worst([verdict for verdict, _ in judged]), sentence, head, rows)


def judge_over_optimisation(
    run: str, lines: Sequence[Mapping[str, Any]], margins: Mapping[str, float]
) -> tuple[str, str]:
    """Verdict and sentence about one run, from its rows of compare.csv.

    bad: a reward that was trained on is better, and one that was not is worse (beyond its margin, where it has one).
    look: that loss without any gain; or a loss within reach that the given margin does not exclude. unknown: no reward
    was trained on here, or none besides those that were. Rows of rewards that only describe an image are not wanted.
    """
    inside = {line["reward"]: line["verdict"] for line in lines if line["domain"] == "in"}
    outside = {line["reward"]: line["verdict"] for line in lines if line["domain"] == "out"}
    if not inside:
        return UNKNOWN, f"{run}: no reward that it was trained on is compared here."
    gained = [key for key, verdict in inside.items() if verdict == "better"]
    lost = [key for key, verdict in outside.items() if verdict == "worse"]
    gain = f"{_names(gained)} rose" if gained else f"{_names(list(inside))} (trained on) did not rise"
    if lost:
        return (BAD if gained else LOOK), f"{run}: {gain}, and {_names(lost)} (not trained on) fell."
    if not outside:
        return UNKNOWN, f"{run}: {gain}, and no other reward was measured that could have shown the cost."
    bounded = [key for key in outside if key in margins or key.partition("@")[0] in margins]
    open_ = [key for key in bounded if outside[key] == NO_DIFFERENCE]
    if open_:
        return LOOK, f"{run}: {gain}, and a loss of {_names(open_)} beyond its margin is not excluded."
    return FINE, f"{run}: {gain}, and no loss was shown of {_names(list(outside))} (not trained on)."


def find_overlap(runs: Sequence[Results]) -> Finding:
    """Prompts of the suite that a run was trained on, compared as `overlap.normalise` says."""
    title = "Training prompts in the suite"
    verdicts, sentences, rows = [], [], []
    unknown: dict[str, list[str]] = {}
    for run in runs:
        prompts = list(dict.fromkeys(prompt.text for prompt in run.prompts.values()))
        found = find_training_run(run)
        if found is None or found.step == 0:
            drawn = run.record["images"] == DRAWN
            why = "no training of this program made it" if drawn else "its images come from elsewhere"
            unknown.setdefault(f"{why}, so what it was trained on is not known here.", []).append(run.name)
            continue
        training = read_training_prompts(found.folder)
        if training is None:
            unknown.setdefault(f"{found.folder} does not tell its training prompts any more.", []).append(run.name)
            continue
        verdict, sentence, shared = judge_overlap(run.name, prompts, training)
        verdicts.append(verdict)
        sentences.append(sentence)
        rows += [(run.name, text) for text in shared]
    # A base model is part of most comparisons; that nobody knows its prompts must not hide what is known of the others.
    sentences += [f"{', '.join(names)}: {why}" for why, names in unknown.items()]
    head = ("run", "prompt in both") if rows else ()
    return Finding(title, _worst(verdicts) if verdicts else UNKNOWN, " ".join(sentences), head, tuple(rows))


def judge_overlap(name: str, prompts: Sequence[str], training: set[str]) -> tuple[str, str, list[str]]:
    """Verdict, sentence, and the prompts of the suite that are among those of the training."""
    shared = seen_in_training(prompts, training)
    if not shared:
        return FINE, f"{name}: none of {len(prompts)} prompts was among its {len(training)} training prompts.", []
    share = len(shared) / len(prompts)
    sentence = (
        f"{name}: {len(shared)} of {len(prompts)} prompts ({share:.1%}) were among its {len(training)} training prompts"
    )
    if share > SEEN_SHARE:
        return BAD, f"{sentence}, so its scores are partly those of what it has learned by heart.", shared
    return LOOK, f"{sentence}.", shared


def find_failures(runs: Sequence[Results]) -> Finding:
    """Scores that could not be made, which are in no mean."""
    title, rows, verdicts = "Images without a score", [], [FINE]
    for run in runs:
        if not run.record["finished"]:
            verdicts.append(LOOK)
            rows.append((run.name, "-", "-", "the evaluation was not finished"))
        for reward, cells in run.scores.items():
            failed = [row for row in cells.values() if row.status != OK]
            if failed:
                verdicts.append(BAD if len(failed) > FAILED_SHARE * len(cells) else LOOK)
                rows.append((run.name, reward, f"{len(failed)} of {len(cells)}", failed[0].detail))
    if not rows:
        return Finding(title, FINE, "Every image has a score of every reward.")
    sentence = (
        f"Scores are missing; they are in no mean, and more than {FAILED_SHARE:.0%} of them may make it another suite."
    )
    return Finding(title, _worst(verdicts), sentence, ("run", "reward", "failed", "the first reason"), tuple(rows))


def find_rulers(runs: Sequence[Results]) -> Finding:
    """Versions, engines and weights of the rewards, and where two folders differ in them."""
    title = "Rewards: versions and engines"
    head = ("reward", "run", "version", "engine", "weights")
    rows: list[tuple[str, ...]] = []
    keys_of: dict[str, list[frozenset[str]]] = {}
    engines: dict[str, set[str]] = {}
    for run in runs:
        for name, keys in run.variants.items():
            keys_of.setdefault(name, []).append(frozenset(keys))
        for key in run.scores:
            card = run.card(key)
            engine, weights = tell_engine(card["provenance"])
            engines.setdefault(key, set()).add(json.dumps(card["provenance"], sort_keys=True))
            rows.append((key, run.name, str(card["version"]), engine, weights))
    differing = sorted(key for key, found in engines.items() if len(found) > 1)
    versions = sorted(name for name, found in keys_of.items() if not frozenset.intersection(*found))
    rows.sort(key=lambda row: row[0])
    if differing or versions:
        parts = [f"{_names(differing)} by other engines or weights"] if differing else []
        parts += [f"{_names(versions)} as another version or with other options"] if versions else []
        sentence = f"The folders were not scored alike: {'; '.join(parts)}. Such scores do not compare."
        return Finding(title, BAD, sentence, head, tuple(rows))
    alike = "All folders were scored" if len(runs) > 1 else "The folder was scored"
    return Finding(title, FINE, f"{alike} by one version and one engine a reward.", head, tuple(rows))


def find_pictures(runs: Sequence[Results]) -> list[Finding]:
    """A finding for each figure of `pictures`: how the runs' images differ from the base's in what no reward sees."""
    looked = [look_through(run.folder) for run in runs]
    shared = set.intersection(*(set(found) for found, _ in looked))  # other seeds would be other pairs of images
    seen = [by_prompt({cell: found[cell] for cell in shared}) for found, _ in looked]
    moves = [_moves(seen[0], one) for one in seen[1:]]
    findings = [_compare_figure(name, runs, [one[name] for one in seen], moves) for name in FIGURES]
    unseen = [(run.name, len(problems), problems) for run, (_, problems) in zip(runs, looked, strict=True) if problems]
    if unseen:
        rows = tuple((name, str(count), next(iter(problems.values()))) for name, count, problems in unseen)
        sentence = "Some images are not here as they were scored, and are in none of the figures about pictures."
        findings.append(Finding("Images that could not be looked at", LOOK, sentence, ("run", "images", "why"), rows))
    return findings


def judge_figure(name: str, found: Difference, moved: bool) -> tuple[str, str]:
    """Verdict and one clause about one figure of a run.

    look: it moved, whichever way and however little: the figures are no qualities, and what a move means is for a
    person to see. bad: more than half of all pairs of images have become near-identical, or diversity fell below half
    of the base's.
    """
    change = f"from {format_number(found.base_mean)} to {format_number(found.run_mean)}"
    if not moved:
        return FINE, f"went {change}, no more than chance may do"
    collapsed = {
        "near_duplicates": found.delta > 0 and found.run_mean > COLLAPSED,
        "diversity": found.run_mean < COLLAPSED * found.base_mean,
    }
    share = f" ({found.delta / found.base_mean:+.0%})" if found.base_mean else ""
    return (BAD if collapsed.get(name) else LOOK), f"{'rose' if found.delta > 0 else 'fell'} {change}{share}"


def _moves(base: _Figures, run: _Figures) -> dict[str, tuple[Difference, bool]]:
    """How each figure differs from the base's, and whether that is more than chance: by the interval, and by Holm's
    correction over the figures where there are prompts enough for a test to say so."""
    found = {
        name: compare_pairs(list(base[name].values()), [run[name][prompt] for prompt in base[name]], list(base[name]))
        for name in FIGURES
        if base[name]
    }
    tests = len(found)
    adjusted = holm([one.p for one in found.values()])
    return {
        name: (
            one,
            one.excludes_zero and (p < SIGNIFICANCE or smallest_p(one.differing, tests) >= SIGNIFICANCE),
        )
        for (name, one), p in zip(found.items(), adjusted, strict=True)
    }


def _compare_figure(
    name: str,
    runs: Sequence[Results],
    values: Sequence[Mapping[str, float]],
    moves: Sequence[Mapping[str, tuple[Difference, bool]]],
) -> Finding:
    """`values` holds each run's value of each prompt, of the same prompts everywhere; `moves` what became of the base's
    figures in each other run."""
    title, base = f"Pictures: {FIGURES[name]}", values[0]
    if not base:
        why = "no prompt has two images" if name in BETWEEN_SEEDS else "the folders share no image that can be read"
        return Finding(title, UNKNOWN, f"Nothing tells: {why}.")
    head, rows = ("run", "mean", "change [95 %]", "prompts"), [(runs[0].name, _mean(base), "-", str(len(base)))]
    if len(runs) == 1:
        sentence = f"{runs[0].name}: {_mean(base)}, with no base model to compare it with."
        return Finding(title, UNKNOWN, sentence, head, tuple(rows))
    verdicts, clauses = [], []
    for run, of_run, moved in zip(runs[1:], values[1:], moves, strict=True):
        found, beyond_chance = moved[name]
        verdict, clause = judge_figure(name, found, beyond_chance)
        verdicts.append(verdict)
        clauses.append(f"{run.name}: it {clause}.")
        change = format_interval(found.delta, found.ci_low, found.ci_high, "+")
        rows.append((run.name, _mean(of_run), change, str(found.prompts)))
    return Finding(title, _worst(verdicts), " ".join(clauses), head, tuple(rows))


def _worst(verdicts: Sequence[str]) -> str:
    order = (FINE, UNKNOWN, LOOK, BAD)
    return max(verdicts, key=order.index)


def _names(keys: Sequence[str]) -> str:
    names = list(keys)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _mean(values: Mapping[str, float]) -> str:
    return format_number(sum(values.values()) / len(values) if values else None)
