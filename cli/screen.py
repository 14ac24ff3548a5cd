"""What is printed: sentences for a person on stderr, the answer (a table or one JSON document) on stdout."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.shown import shown


def say(sentence: str) -> None:
    """A sentence beside the answer, or why there is none."""
    print(f"dgpo: {shown(sentence)}", file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """One JSON document; what is no number is null."""
    print(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    print(render_table(head, rows))


def render_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns under their names, as wide as they need to be.

    >>> print(render_table(["name", "n"], [["a", 1], ["long", 20]]))
    name  n
    a     1
    long  20
    """
    lines = [[shown(str(cell)) for cell in line] for line in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def format_number(value: float | None) -> str:
    """Three decimals, one for large numbers, a dash for none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
