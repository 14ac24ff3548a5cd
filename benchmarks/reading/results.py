"""Results folders as they are read back, and the rules under which two of them may be put side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.harness.drawing import drawn_otherwise, with_drawn_size
from benchmarks.harness.images import CellKey
from benchmarks.harness.record import Record, read_record
from benchmarks.harness.store import Row, read_rows
from benchmarks.reading.prompts import prompts_of
from rewards.errors import UsageError
from rewards.prompt import Prompt


@dataclass(frozen=True)
class Results:
    """One results folder: its record and the scores of each reward by cell (prompt id and seed)."""

    folder: Path
    name: str
    record: Record
    scores: dict[str, dict[CellKey, Row]]

    @property
    def suite(self) -> str:
        return self.record["suite"]["name"]

    @property
    def trained_on(self) -> list[str] | None:
        return self.record["trained_on"]

    def card(self, reward: str) -> dict[str, Any]:
        """What run.json says of a reward: unit, direction, provenance."""
        return self.record["rewards"][reward]

    @cached_property
    def prompts(self) -> dict[str, Prompt]:
        """The suite's prompts with their specs, by id and in the suite's order."""
        return prompts_of(self.folder, self.record, [row for cells in self.scores.values() for row in cells.values()])

    @cached_property
    def variants(self) -> dict[str, set[str]]:
        """For each reward name the keys (versions and options) it was scored with."""
        found: dict[str, set[str]] = {}
        for key in self.scores:
            found.setdefault(self.card(key)["name"], set()).add(key)
        return found

    def variant(self, reward: str) -> str | None:
        """The key that stands for a reward: the one without options where there are several."""
        keys = self.variants.get(reward)
        return min(keys, key=lambda key: (len(key), key)) if keys else None


def read_results(folders: Sequence[Path]) -> list[Results]:
    """The folders with their scores; runs of the same name are told apart by their folders."""
    read = [(folder, with_drawn_size(folder, read_record(folder)), _by_reward(folder)) for folder in folders]
    names = [record["run"] for _, record, _ in read]
    return [
        Results(folder, str(folder) if names.count(record["run"]) > 1 else record["run"], record, scores)
        for folder, record, scores in read
    ]


def tell_engine(provenance: Mapping[str, Any]) -> tuple[str, str]:
    """Engine with its version, and the weights ("none" without any), each checksum cut to what tells it from others.

    >>> tell_engine({"engine": "torch", "engine_version": "2.9", "weights": "a.pt sha256:" + 64 * "0"})
    ('torch 2.9', 'a.pt sha256:000000000000')
    """
    engine, version = str(provenance.get("engine", "")), str(provenance.get("engine_version", ""))
    named = version if engine in version else f"{engine} {version}".strip()
    weights = re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]+", r"\1", str(provenance.get("weights") or "none"))
    return named or engine or "-", weights


def shared_rewards(base: Results, run: Results, *, any_sampler: bool = False) -> list[str]:
    """The rewards by which two runs may be compared, in the base's order; `any_sampler` lets images differ in that.

    Raises UsageError with how to mend it if the two were not measured alike: other suites or samplers, other versions
    or engines of a reward, other seeds, or an evaluation that was not finished.
    """
    _refuse_other_prompts(base, run)
    if not any_sampler:
        _refuse_other_sampler(base, run)
    _refuse_other_versions(base, run)
    shared = [key for key in base.scores if key in run.scores]
    if not shared:
        raise UsageError(
            f"{base.folder} and {run.folder} have no reward in common ({', '.join(base.scores)} there,"
            f" {', '.join(run.scores)} here). {_again(run, '--reward ' + next(iter(base.scores)))}"
        )
    for key in shared:
        _refuse_other_cells(base, run, key)
    return shared


def _by_reward(folder: Path) -> dict[str, dict[CellKey, Row]]:
    scores: dict[str, dict[CellKey, Row]] = {}
    for row in read_rows(folder):
        scores.setdefault(row.reward, {})[row.prompt_id, row.seed] = row
    if not scores:
        raise UsageError(f"{folder} holds no scores yet; run its `dgpo eval` to the end first.")
    return scores


def _refuse_other_prompts(base: Results, run: Results) -> None:
    if base.record["suite"]["sha256"] != run.record["suite"]["sha256"]:
        raise UsageError(
            f"{base.folder} and {run.folder} answer other prompts: the suite {_suite(base)} there, {_suite(run)} here."
            f" Evaluate both with the same --suite."
        )


def _refuse_other_sampler(base: Results, run: Results) -> None:
    differing = drawn_otherwise(base.record, run.record)
    if differing:
        raise UsageError(
            f"{base.folder} and {run.folder} were drawn by other sampler settings ({', '.join(differing)}), so a"
            " difference would not be the model's. Evaluate one again like the other (`dgpo eval` with --output,"
            " --set sampling.NAME=VALUE or --dtype NAME), or compare them all the same with --any-sampler."
        )


def _refuse_other_versions(base: Results, run: Results) -> None:
    for name in sorted(base.variants.keys() & run.variants.keys()):
        keys, others = base.variants[name], run.variants[name]
        if not keys & others:
            wanted = min(keys)
            raise UsageError(
                f"{name} was scored as {', '.join(sorted(keys))} in {base.folder} and as {', '.join(sorted(others))} in"
                f" {run.folder}, which are different measures. {_again(run, f'--reward {wanted!r}')}"
            )
        for key in sorted(keys & others):
            _refuse_other_engine(base, run, key)


def _refuse_other_engine(base: Results, run: Results, key: str) -> None:
    there, here = base.card(key)["provenance"], run.card(key)["provenance"]
    parts = sorted(part for part in {*there, *here} if there.get(part) != here.get(part))
    if parts:
        differing = "; ".join(f"{part}: {there.get(part)} and {here.get(part)}" for part in parts)
        raise UsageError(
            f"{key} was made by different engines or weights in {base.folder} and {run.folder} ({differing})."
            f" {_again(run, f'--reward {key!r} in the installation that scored {base.folder}')}"
        )


def _refuse_other_cells(base: Results, run: Results, key: str) -> None:
    there, here = base.scores[key].keys(), run.scores[key].keys()
    if there == here:
        return
    seeds_there, seeds_here = ({seed for _, seed in cells} for cells in (there, here))
    if seeds_there != seeds_here:
        short, count = (run, len(seeds_there)) if len(seeds_here) < len(seeds_there) else (base, len(seeds_here))
        raise UsageError(
            f"{key} has the seeds {_list(seeds_there)} in {base.folder} and {_list(seeds_here)} in {run.folder};"
            f" only the same starting noise can be compared. {_again(short, f'--seeds {count}')}"
        )
    short = base if len(there) < len(here) else run
    raise UsageError(
        f"{key} has {len(there)} images in {base.folder} and {len(here)} in {run.folder}: an evaluation was not"
        f" finished. {_again(short, '')}"
    )


def _suite(results: Results) -> str:
    return f"{results.suite} ({results.record['suite']['sha256'][:12]})"


def _again(results: Results, words: str) -> str:
    added = f" with {words}" if words else ""
    return f"Run the `dgpo eval` of {results.folder} again{added}; its images are kept."


def _list(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
