"""Markdown that we write: its tables, and words from outside (names of runs and folders) in it."""

from collections.abc import Iterable, Sequence
from html import escape


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is: no HTML of its own, no column, no line.

    >>> plain("a|b <img src=x>")
    'a\\|b &lt;img src=x&gt;'
    """
    return escape(" ".join(text.split()), quote=False).replace("|", r"\|")


def render_markdown(
    head: Sequence[str], lines: Iterable[Sequence[object]], *, words: int = 1, padded: bool = False
) -> str:
    r"""A table; the first `words` columns are words from outside, the others are set to the right as numbers are.

    Args:
        padded: columns as wide as their longest cell, for readers of the text itself; all to the left.

    >>> print(render_markdown(["model", "mean"], [["a|b", 0.5]]), end="")
    | model | mean |
    | --- | ---: |
    | a\|b | 0.5 |
    """
    body = [[plain(str(cell)) if place < words else str(cell) for place, cell in enumerate(line)] for line in lines]
    rule = ["---" if padded or place < words else "---:" for place in range(len(head))]
    table = [list(map(plain, head)), rule, *body]
    if padded:
        widths = [max(len(line[place]) for line in table) for place in range(len(head))]
        table[1] = ["-" * width for width in widths]
        table = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table]
    return "".join(f"| {' | '.join(line)} |\n" for line in table)
