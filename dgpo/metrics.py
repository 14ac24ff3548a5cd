"""metrics.jsonl: a line for each iteration and each evaluation of a run, in the order in which they were made.

A killed run may leave half of a last line, which is forgotten. Anything else that is no line of ours (a blank one,
bytes that a disk has lost, somebody's remark) is damage: it is told and kept aside, and the other lines are used.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.files import JsonLines, append_file, move, read_json_lines, replace_file

Line = dict[str, Any]


def read_lines(path: Path) -> JsonLines:
    """The lines of a file; of one that is not there, none."""
    return read_json_lines(path, _is_ours)


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """A number that does not exist (the mean of no scores) is null."""
    append_file(path, (_strict_json(line) + "\n").encode())


def cut_lines(path: Path, step: int) -> list[str]:
    """Forget the lines written after `step`, which will be written again; a sentence if something was kept aside."""
    if not path.exists():
        return []
    lines, notes = read_lines(path), []
    if lines.damaged:
        aside = _free_name(path, "damaged")
        replace_file(aside, b"".join(text + b"\n" for text in lines.damaged.values()))
        numbers = ", ".join(map(str, lines.damaged))
        notes.append(
            f"{path} is damaged (line {numbers}); what stood there is kept in {aside.name}, the other lines are used."
        )
    kept = [line for line in lines.whole if line["step"] <= step]
    replace_file(path, "".join(_strict_json(line) + "\n" for line in kept).encode())
    return notes


def set_aside(path: Path) -> Path:
    """Move a file that no longer counts out of the way, to a name of its own."""
    return move(path, _free_name(path, "before"))


def _free_name(path: Path, word: str) -> Path:
    """metrics.WORD-1.jsonl, or the next number that is not taken."""
    number = 1
    while (place := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")).exists():
        number += 1
    return place


def _is_ours(line: Line) -> bool:
    """A line as we write it: it has a step; its numbers, where there are some, are numbers."""
    if not _is_whole_number(line.get("step")):
        return False
    sections = ("rewards", "spreads", "evaluation", "pictures", "seconds", "passes")
    if not all(isinstance(line.get(name, {}), dict) for name in sections):
        return False
    return isinstance(line.get("reward"), int | float | None)


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _strict_json(value: Any) -> str:
    return json.dumps(_without_nan(value), allow_nan=False)


def _without_nan(value: Any) -> Any:
    """NaN and infinities are no JSON."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
