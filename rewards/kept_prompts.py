"""prompts.jsonl of a results folder: the suite's prompts with their specs, so that no reader has to ask elsewhere.

One JSON object a line, {"prompt": text, ...spec}, in the suite's order; it is a prompt file like any other, and can be
given as --prompts or --suite. A prompt's id is the hash of its text and spec, so each line tells by itself to which
scores and images it belongs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rewards.errors import UsageError
from rewards.files import replace_file
from rewards.prompt import Prompt
from rewards.tables import json_rows, read_text

PROMPTS_FILE = "prompts.jsonl"


def keep_prompts(folder: Path, prompts: Iterable[Prompt]) -> None:
    """Write the prompts of a suite, or those of a suite that has grown in their place, whole or not at all."""
    lines = (json.dumps({"prompt": one.text, **one.spec}, ensure_ascii=False, allow_nan=False) for one in prompts)
    replace_file(folder / PROMPTS_FILE, "".join(f"{line}\n" for line in lines).encode())


def read_kept_prompts(folder: Path) -> list[Prompt] | None:
    """The prompts in the suite's order; None where there are none, as in folders of before they were kept.

    Texts are taken as they stand, white space at their ends too: what was drawn is known by the hash of it.

    Raises:
        UsageError: a line is no prompt.
    """
    path = folder / PROMPTS_FILE
    if not path.exists():
        return None
    prompts = []
    for number, row in json_rows(path, read_text(path, "file of prompts")):
        text = row.pop("prompt", None)
        if not isinstance(text, str):
            raise UsageError(
                f'{path}, line {number}: this line is damaged (it holds no text under "prompt"). Run the same'
                " `dgpo eval` again: it writes the file anew and keeps the scores."
            )
        prompts.append(Prompt(text, row))
    return prompts
