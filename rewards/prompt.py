"""Prompt: the text a model draws from, with the facts a reward needs to judge the drawing."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from rewards.errors import UsageError, suggestion

JSON: TypeAlias = Any


@dataclass(frozen=True)
class Prompt:
    """One prompt; equal text and spec make the same prompt, with the same id, everywhere."""

    text: str
    spec: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "prompt" in self.spec:
            raise UsageError(
                f'The spec of the prompt "{self.text}" has a field "prompt", which is the name of the text.'
            )

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
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a file: .txt (one a line), .jsonl ({"prompt": ..., further fields = spec}), .csv (column `prompt`).

    Blank lines are skipped; other columns of a .csv are left alone.

    Raises:
        UsageError: no such file, another ending, no prompt in it, or a line that is not what it should be.
    """
    path = Path(path)
    readers = {".txt": _text_lines, ".jsonl": _json_lines, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: a prompt file ends in .txt, .jsonl or .csv." + suggestion(path.suffix, readers))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such prompt file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error
    prompts = list(reader(path, text))
    if not prompts:
        raise UsageError(f"{path}: holds no prompt; write one a line.")
    return prompts


def _text_lines(path: Path, text: str) -> Iterator[Prompt]:
    for line in text.split("\n"):
        if line.strip():
            yield Prompt(line.strip())


def _json_lines(path: Path, text: str) -> Iterator[Prompt]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line, parse_constant=_refuse_constant)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str) or not fields["prompt"].strip():
            raise UsageError(f'{path}, line {number}: needs an object with the text under "prompt".')
        yield Prompt(fields.pop("prompt"), fields)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _csv_rows(path: Path, text: str) -> Iterator[Prompt]:
    rows = csv.DictReader(text.splitlines(keepends=True))
    columns = list(rows.fieldnames or [])
    if "prompt" not in columns:
        raise UsageError(f'{path}, line 1: needs a column "prompt"; it has: {", ".join(columns) or "nothing"}.')
    for row in rows:
        prompt = row["prompt"]
        if prompt is None or not prompt.strip():
            raise UsageError(f'{path}, line {rows.line_num}: the column "prompt" is empty.')
        yield Prompt(prompt)
