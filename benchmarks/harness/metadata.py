"""metadata.csv or metadata.jsonl: what a folder says of its images, an image per row.

Columns (or fields) are file_name[,prompt][,seed]; others are left alone. File names are relative to the file. Prompts
are compared settled and in Unicode's composed form, see `rewards.tables`, so that a text which went through another
program or another operating system still finds its prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UsageError
from rewards.prompt import Prompt
from rewards.tables import csv_rows, json_rows, matching, read_text, settle

METADATA_FILES = ("metadata.csv", "metadata.jsonl")
COLUMNS = ("file_name", "prompt", "seed")


@dataclass(frozen=True)
class Listed:
    """One row: the image's name relative to the list, its settled prompt (empty where there is none), its seed, and
    `where` the row stands."""

    file_name: str
    prompt: str
    seed: int | None
    where: str


class PromptsByText:
    """Prompts by their text; several may have the same one and differ in their specs."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self._found: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            self._found.setdefault(matching(prompt.text), []).append(prompt)

    def find(self, text: str) -> list[Prompt]:
        return self._found.get(matching(text), [])


def find_metadata(folder: Path) -> Path | None:
    """A folder's own list of its images, if it has one."""
    return next((folder / name for name in METADATA_FILES if (folder / name).exists()), None)


def read_metadata(path: Path, needed: Sequence[str] = ("file_name",)) -> list[Listed]:
    """The rows of such a file, in order.

    Raises:
        UsageError: it cannot be read, lacks a needed column, a row lacks a needed value or has a seed that is none, or
            there is no row.
    """
    return parse_metadata(path, read_text(path, "list of images"), needed)


def parse_metadata(path: Path | str, text: str, needed: Sequence[str] = ("file_name",)) -> list[Listed]:
    """The rows of a list's text; `path` is for messages, and its ending tells CSV from JSON Lines."""
    if str(path).lower().endswith(".jsonl"):
        rows = [(line, {name: _cell(row.get(name)) for name in COLUMNS}) for line, row in json_rows(path, text)]
    else:
        rows = list(csv_rows(path, text, needed, COLUMNS))
    listed = []
    for line, row in rows:
        where = f"{path}, line {line}"
        absent = [name for name in needed if not row[name]]
        if absent:
            raise UsageError(f"{where}: a row needs a {' and a '.join(absent)}.")
        if "\0" in row["file_name"]:
            raise UsageError(f"{where}: the file name holds a NUL character.")
        listed.append(Listed(row["file_name"], row.get("prompt", ""), parse_seed(row.get("seed"), where), where))
    if not listed:
        raise UsageError(f"{path} lists no image.")
    return listed


def parse_seed(value: object, where: str) -> int | None:
    """A seed as a list tells it, None for nothing; UsageError for what is no whole number from 0 up."""
    text = "" if value is None else str(value)
    if text and not is_seed(text):
        raise UsageError(f'{where}: the seed "{text[:40]}" is not a whole number from 0 up.')
    return int(text) if text else None


def is_seed(text: str) -> bool:
    """Whether it is a whole number from 0 up, of 64 bits as tables have them."""
    return text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**63


def _cell(value: object) -> str:
    return settle("" if value is None else str(value))
