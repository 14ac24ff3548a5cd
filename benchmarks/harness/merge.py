"""The parts of `dgpo score --shard I/N` as one file: all of them, each once, of one and the same work, or none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.score_files import read_scores
from benchmarks.harness.shard import Part, read_part
from benchmarks.harness.store import Row
from rewards.errors import UsageError

_DEVICE_NUMBER = re.compile(r":[0-9]+$")


def order_shards(paths: Sequence[Path]) -> dict[Path, Part]:
    """The files of all shards with their records, in the shards' order.

    Raises:
        UsageError: one is no shard, is there twice, or is missing; or they are not parts of the same work.
    """
    by_number: dict[int, tuple[Path, Part]] = {}
    for path in paths:
        part = read_part(path)
        for other_path, other in list(by_number.values())[:1]:
            _refuse_other_work(other_path, other, path, part)
        twin, _ = by_number.setdefault(part.shard.number, (path, part))
        if twin != path or paths.count(path) > 1:
            raise UsageError(f"Shard {part.shard} is there twice, as {twin} and {path}; leave one of them out.")
    _, some = next(iter(by_number.values()))
    count = some.shard.count
    missing = [str(number) for number in range(1, count + 1) if number not in by_number]
    if missing:
        *most, last = missing
        names = f"{', '.join(most)} and {last} of {count} are" if most else f"{last} of {count} is"
        raise UsageError(f"Not all shards are there: {names} missing. Nothing was written.")
    return dict(by_number[number] for number in sorted(by_number))


def join_rows(shards: Mapping[Path, Part]) -> Iterator[Row]:
    """The rows of all shards, of which one at a time is in memory."""
    for path, part in shards.items():
        rows = read_scores(path)
        if len(rows) != part.entries * len(part.rewards):
            raise UsageError(f"{path} has {len(rows)} rows, and its record says otherwise; score this shard again.")
        yield from rows


def _refuse_other_work(path: Path, part: Part, other_path: Path, other: Part) -> None:
    """UsageError if two files are not parts of the same whole."""
    if part.shard.count != other.shard.count:
        problem = f"the one is {part.shard}, the other {other.shard}"
    elif list(part.rewards) != list(other.rewards):
        problem = f"the one is by {', '.join(part.rewards)}, the other by {', '.join(other.rewards)}"
    elif changed := [key for key in part.rewards if _made_by(part.rewards[key]) != _made_by(other.rewards[key])]:
        facts, others = _made_by(part.rewards[changed[0]]), _made_by(other.rewards[changed[0]])
        name = next(name for name in [*facts, *others] if facts.get(name) != others.get(name))
        problem = f"{changed[0]} had the {name} {facts.get(name)} in the one, and {others.get(name)} in the other"
    elif part.inputs != other.inputs:
        problem = "they were cut from other images, prompts, seeds or paths"
        if part.of_entries != other.of_entries:
            problem += f" ({part.of_entries} there, {other.of_entries} here)"
    else:
        return
    raise UsageError(f"{path} and {other_path} are not parts of the same work: {problem}.")


def _made_by(reward: Mapping[str, Any]) -> dict[str, Any]:
    """What scores depend on. Which of a machine's equal devices was taken is not of it."""
    return {
        name: _DEVICE_NUMBER.sub("", str(value)) if name == "device" else value
        for name, value in reward["provenance"].items()
    }
