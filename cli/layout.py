"""Tables that fit the terminal: columns are left out, the last one is wrapped, or each row becomes a block of lines."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

GAP = "  "
NARROWEST = 32  # what the last column is wrapped to at least


def lay_out(lines: Sequence[Sequence[str]], width: int | None, expendable: Collection[str] = ()) -> str:
    """Text of a table, whose first line are the names of its columns, in at most `width` characters a line.

    Without a width every column is as wide as it must be. Otherwise `expendable` columns are left out, those first that
    say the same in every row, until the rest fits, the last column wrapped; what is left out is told below. If nothing
    helps, each row is a block with a line for each of its cells.
    """
    if width is None or _width(lines) <= width:
        return _columns(lines)
    head, *rows = lines
    by_name = {name: {row[place] for row in rows} for place, name in enumerate(head)}
    kept, left_out = list(head), []
    for name in sorted((name for name in expendable if name in by_name), key=lambda name: len(by_name[name]) > 1):
        if _width(_of(lines, kept), NARROWEST) <= width:
            break
        kept.remove(name)
        left_out.append(name if len(by_name[name]) != 1 else f"{name} ({next(iter(by_name[name]))})")
    chosen = _of(lines, kept)
    if _width(chosen, NARROWEST) > width:
        return "\n\n".join(_block(head, row, width) for row in rows)
    note = f"not shown at this width: {', '.join(left_out)}; a pipe (| cat) or --json has all"
    return "\n".join([_columns(_wrap_last(chosen, width)), *(textwrap.wrap(note, width) if left_out else ())])


def _of(lines: Sequence[Sequence[str]], names: Sequence[str]) -> list[list[str]]:
    places = [lines[0].index(name) for name in names]
    return [[line[place] for place in places] for line in lines]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _width(lines: Sequence[Sequence[str]], last_at_most: int | None = None) -> int:
    *others, last = _widths(lines)
    return sum(others) + len(GAP) * len(others) + (last if last_at_most is None else min(last, last_at_most))


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = _widths(lines)
    padded = (GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _wrap_last(lines: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The last cell goes on in lines of its own, under itself."""
    room = width - _width([[*line[:-1], ""] for line in lines])
    wrapped = []
    for *others, last in lines:
        first, *more = textwrap.wrap(last, room) or [""]
        wrapped += [[*others, first], *([*[""] * len(others), part] for part in more)]
    return wrapped


def _block(head: Sequence[str], row: Sequence[str], width: int) -> str:
    return "\n".join(
        textwrap.fill(f"{name}: {cell}", width, subsequent_indent=GAP) for name, cell in zip(head, row, strict=True)
    )
