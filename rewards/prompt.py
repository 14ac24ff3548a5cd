"""Prompt: the text a model draws from, with the facts a reward needs to judge the drawing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from rewards.errors import UsageError, suggestion
from rewards.files import sha256_of
from rewards.tables import csv_rows, json_rows, lines, read_text, settle

JSON: TypeAlias = Any


@dataclass(frozen=True)
class Prompt:
    """One prompt; equal text and spec make the same prompt, with the same id, everywhere."""

    text: str
    spec: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """UsageError for what could not be written down again: half a surrogate pair, a NUL, a number that is none."""
        if "prompt" in self.spec:
            raise UsageError(
                f'The spec of the prompt "{self.text}" has a field "prompt", which is the name of the text.'
            )
        if "\0" in self.text:
            raise UsageError(f"The prompt {_shown(self.text)} holds a NUL character; take it out.")
        try:
            self.canonical.encode()
        except UnicodeEncodeError:
            raise UsageError(f"The prompt {_shown(self.text)} holds half of a character (a lone surrogate).") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"The prompt {_shown(self.text)} has a spec that JSON cannot hold ({error}).") from None

    def __hash__(self) -> int:
        return hash(self.canonical)

    @cached_property
    def canonical(self) -> str:
        """The prompt as one line of JSON whose bytes depend on nothing but text and spec."""
        fields = {"prompt": self.text, **self.spec}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @cached_property
    def id(self) -> str:
        """16 hex digits; the name of the prompt in files and the root of its starting noise."""
        return sha256_of(self.canonical)[:16]


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a file: .txt (one per line), .jsonl ({"prompt": ..., further fields = spec}), .csv (column `prompt`).

    Blank lines are skipped, white space around a prompt is taken off; other columns of a .csv are left alone.

    Raises:
        UsageError: no such file, another ending, no prompt in it, or a line that is not what it should be.
    """
    path = Path(path)
    readers = {".txt": _text_lines, ".jsonl": _json_lines, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: a prompt file ends in .txt, .jsonl or .csv." + suggestion(path.suffix, readers))
    prompts = list(reader(path, read_text(path, "prompt file")))
    if not prompts:
        raise UsageError(f"{path}: holds no prompt; write one per line.")
    return prompts


def _text_lines(path: Path, text: str) -> Iterator[Prompt]:
    return (_prompt(path, number, line) for number, line in lines(text))


def _json_lines(path: Path, text: str) -> Iterator[Prompt]:
    for number, row in json_rows(path, text):
        prompt = row.pop("prompt", None)
        if not isinstance(prompt, str) or not settle(prompt):
            raise UsageError(f'{path}, line {number}: needs an object with the text under "prompt".')
        yield _prompt(path, number, prompt, row)


def _csv_rows(path: Path, text: str) -> Iterator[Prompt]:
    for number, row in csv_rows(path, text, ["prompt"]):
        if not row["prompt"]:
            raise UsageError(f'{path}, line {number}: the column "prompt" is empty.')
        yield _prompt(path, number, row["prompt"])


def _prompt(path: Path, number: int, text: str, spec: Mapping[str, JSON] | None = None) -> Prompt:
    try:
        return Prompt(settle(text), spec or {})
    except UsageError as error:
        raise UsageError(f"{path}, line {number}: {error}") from None


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
