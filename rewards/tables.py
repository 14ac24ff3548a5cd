"""Texts and tables that people hand in (prompt files, metadata, scores): text in, rows with their line numbers out.

Text is UTF-8; a byte order mark is skipped. Lines end with LF or CRLF, and with CR in a text that has no LF. Nothing
else ends a line or a cell: form feeds, U+0085, U+2028 and their kin are characters like any other. White space at the
ends of a cell or a line belongs to the file and not to the text, so it is taken off, the same everywhere (`settle`).
"""

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rewards.errors import UsageError
from rewards.files import read_regular

TEXT_BYTES = 2**30
# The csv module's own bound, 131,072 characters a cell, is less than a prompt or a judge's reply may have.
csv.field_size_limit(TEXT_BYTES)
_LONE_CR = re.compile("\r(?!\n)")
_CR = "\udc0d"  # stands for it while the csv module reads; half a surrogate pair, which no text in UTF-8 can hold
_SPECIAL = re.compile('[",\r\n]')


def settle(text: str) -> str:
    """A text without the white space at its ends, of any kind (spaces, line ends, no-break and ideographic spaces)."""
    return text.strip()


def matching(text: str) -> str:
    """What two texts have in common that a person takes for the same one: settled, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", settle(text))


def read_text(path: Path, what: str = "file") -> str:
    """The text of a regular file; `what` it is, is for the message.

    Raises:
        UsageError: there is none, it is no regular file, is larger than 1 GiB, is not UTF-8, or holds a NUL character.
    """
    try:
        data = read_regular(path, TEXT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: there is no such {what}.") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error
    return decode(path, data)


def decode(path: Path | str, data: bytes) -> str:
    """The text of a file's bytes; UsageError where they are no text in UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: not UTF-8 at byte {error.start}; save it as UTF-8.") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(f"{path}, line {line}: holds a NUL character, so it is no text in UTF-8; save it as that.")
    return text


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The settled lines that are not blank, with their numbers from 1."""
    for number, line in enumerate(_unify(text).split("\n"), start=1):
        if settled := settle(line):
            yield number, settled


def json_rows(path: Path | str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines text with their line numbers; UsageError for a line that is none."""
    for number, line in lines(text):
        try:
            row = json.loads(line, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: not JSON ({str(error)[:200]}).") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: needs a JSON object, {{...}}.")
        yield number, row


def csv_rows(
    path: Path | str, text: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows under a CSV text's header: settled cells by column, with line numbers; blank rows are left out.

    Raises:
        UsageError: a needed column is absent, one of these stands twice, a row has more cells than the header, or the
            quotes are not as CSV has them.
    """
    cells = csv_cells(path, text, skipinitialspace=True)
    columns = [settle(column) for column in next(cells, (1, []))[1]]
    for name in needed:
        if name not in columns:
            raise UsageError(f'{path}, line 1: needs a column "{name}"; it has: {", ".join(columns) or "nothing"}.')
    for name in (*needed, *optional):
        if columns.count(name) > 1:
            raise UsageError(f'{path}, line 1: has {columns.count(name)} columns "{name}"; keep one of them.')
    for number, row in cells:
        row = [settle(cell) for cell in row]
        if any(row[len(columns) :]):
            raise UsageError(
                f"{path}, line {number}: has {len(row)} cells under {len(columns)} columns; a text with commas stands "
                'in double quotes ("a cat, asleep").'
            )
        if any(row):
            yield number, dict(zip(columns, [*row, *[""] * len(columns)], strict=False))


def csv_cells(path: Path | str, text: str, *, skipinitialspace: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV text, cell by cell as they are, each with the number of its last line.

    Quotes are taken strictly, since a lenient reader drops the marks of `"HELLO" on a sign`, and lets a cell that is
    never closed swallow all that follows. A lone CR inside a cell is kept, quoted or not (Python 3.11 and 3.12, and
    pandas on them, write it unquoted).
    """
    marked = io.StringIO(_LONE_CR.sub(_CR, _unify(text)), newline="\n")
    reader = csv.reader(marked, strict=True, skipinitialspace=skipinitialspace)
    try:
        for row in reader:
            if row:
                yield reader.line_num, [cell.replace(_CR, "\r") for cell in row]
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num}: not as CSV is written ({error}); a cell with commas, quotes or line "
            'breaks stands in double quotes, and a quote in it is doubled ("the word ""HI""").'
        ) from None


def write_cells(cells: Iterable[str]) -> str:
    r"""One record of a CSV file, which `csv_cells`, pandas and spreadsheets read as it was; unlike the csv module's own
    in Python 3.11 and 3.12, a lone CR is quoted.

    >>> write_cells(["a cat, asleep", "1"])
    '"a cat, asleep",1\n'
    """
    return ",".join('"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell for cell in cells) + "\n"


def _unify(text: str) -> str:
    return text if "\n" in text else text.replace("\r", "\n")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'"{next(name for name in names if names.count(name) > 1)}" is given twice')
    return row
