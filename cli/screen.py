"""What is printed: sentences for a person on stderr, the answer (a table or one JSON document) on stdout."""

import json
import logging
import math
import os
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cli.layout import lay_out
from rewards.escape import escape_controls
from rewards.secrets import hide_secrets


def say(sentence: str) -> None:
    """A sentence beside the answer, or why there is none."""
    print(f"dgpo: {escape_controls(hide_secrets(sentence))}", file=sys.stderr, flush=True)


class _Saying(logging.Handler):
    """Says what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def hear_rewards(*, aloud: bool = True) -> None:
    """Say what rewards have to tell while they score (that a server is waited for, say), or let it be."""
    logger = logging.getLogger("rewards")
    for handler in [one for one in logger.handlers if isinstance(one, _Saying)]:
        logger.removeHandler(handler)
    if aloud:
        logger.addHandler(_Saying(logging.WARNING))
    logger.setLevel(logging.WARNING if aloud else logging.ERROR)


def leave_terminal() -> None:
    """After SIGHUP: what would be written to a terminal that is gone goes nowhere, and is no error."""
    for number in (sys.stdout.fileno(), sys.stderr.fileno()):
        if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def print_json(document: Any) -> None:
    """One JSON document; what is no number is null."""
    print(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]], expendable: Sequence[str] = ()) -> None:
    """A table within the terminal's width, for which `expendable` columns may go; whole where it goes elsewhere."""
    print(render_table(head, rows, terminal_width(), expendable))


def terminal_width() -> int | None:
    """Columns of the terminal that reads the answer; None where a file or another program does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render_table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None = None, expendable: Sequence[str] = ()
) -> str:
    """Columns under their names, as wide as they need to be, or as `lay_out` fits them into a width.

    >>> print(render_table(["name", "n"], [["a", 1], ["long", 20]]))
    name  n
    a     1
    long  20
    """
    return lay_out([[escape_controls(str(cell)) for cell in line] for line in (head, *rows)], width, expendable)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
