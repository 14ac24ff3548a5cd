"""The prompts of a results folder as they are read back: those that it keeps, and of older folders what can be known.

Folders of before version 2 of run.json keep texts only, in scores.csv. Specs of theirs are looked up where the suite
came from, as far as that is here: those of a suite that is drawn are drawn again, and a .jsonl file is read if it is
still there. Evaluating into such a folder once more, by the same command, gives it its prompts.jsonl.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.store import Row
from benchmarks.suites import SUITES
from rewards.errors import DgpoError, UsageError
from rewards.kept_prompts import PROMPTS_FILE, read_kept_prompts
from rewards.prompt import Prompt, read_prompts


def prompts_of(folder: Path, record: Mapping[str, Any], rows: Iterable[Row]) -> dict[str, Prompt]:
    """Every prompt by its id, in the suite's order.

    Raises:
        UsageError: the folder keeps its prompts, and one of the scores is of another prompt.
    """
    scored = {row.prompt_id: row.prompt for row in rows}
    kept = read_kept_prompts(folder)
    if kept is None:
        found = {prompt.id: prompt for prompt in _look_up(record["suite"])}
        return {prompt_id: found.get(prompt_id) or Prompt(text) for prompt_id, text in scored.items()}
    prompts = {prompt.id: prompt for prompt in kept}
    strange = next((prompt_id for prompt_id in scored if prompt_id not in prompts), None)
    if strange is not None:
        raise UsageError(
            f"{folder} holds scores of a prompt ({strange}) that its {PROMPTS_FILE} does not hold. Run its `dgpo eval`"
            f" again: it writes {PROMPTS_FILE} anew and keeps the scores."
        )
    return prompts


def _look_up(suite: Mapping[str, Any]) -> Iterable[Prompt]:
    known = next((one for name, one in SUITES.items() if one.drawn and suite["name"].startswith(name)), None)
    path = Path(suite["source"])
    try:
        if known is not None:
            return known.load().prompts
        return read_prompts(path) if path.suffix == ".jsonl" and path.is_file() else []
    except (DgpoError, OSError):
        return []
