"""To which category each prompt of a suite belongs, where the suite is at hand and says so.

A prompt's `tag` (GenEval's tasks: counting, position...) or `category` is part of its spec, which scores.csv does not
hold; prompts are recognised by their ids, which are hashes of text and spec.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.record import Record
from benchmarks.suite import GENERATED, draw_suite
from rewards.errors import DgpoError
from rewards.prompt import Prompt, read_prompts

FIELDS = ("tag", "category")


def categories_of(record: Record) -> dict[str, str]:
    """The category of a prompt by its id; empty where the suite has none, or its file is not here any more."""
    found = {}
    for prompt in _prompts(record["suite"]):
        category = next((str(prompt.spec[field]) for field in FIELDS if field in prompt.spec), None)
        if category is not None:
            found[prompt.id] = category
    return found


def _prompts(suite: dict) -> tuple[Prompt, ...] | list[Prompt]:
    drawn = [name for name in GENERATED if suite["name"].startswith(name)]
    path = Path(suite["source"])
    try:
        if drawn:
            return draw_suite(drawn[0]).prompts
        return read_prompts(path) if path.suffix == ".jsonl" and path.is_file() else []
    except (DgpoError, OSError):
        return []
