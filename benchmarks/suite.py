"""A suite: which prompts a model is judged on, in which order, and a fingerprint by which two reports can tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from rewards.files import sha256_of
from rewards.prompt import Prompt

if TYPE_CHECKING:
    from benchmarks.suite_table import SuiteTable


@dataclass(frozen=True)
class Suite:
    """Distinct prompts in a fixed order; `notes` are sentences a person should read, such as merged duplicates."""

    name: str
    prompts: tuple[Prompt, ...]
    source: str
    default_rewards: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    table: SuiteTable | None = field(default=None, compare=False)
    """The table of its own that an evaluation writes beside the means."""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"the suite {self.name} has no prompts")
        if merge_duplicates(self.prompts)[1]:
            raise ValueError(f"the suite {self.name} lists a prompt twice; see merge_duplicates")

    @property
    def sha256(self) -> str:
        """Fingerprint of the set of prompts; their order does not enter, since it changes no image and no score."""
        return sha256_of("\n".join(sorted(map(_line, self.prompts))))


def merge_duplicates(prompts: Iterable[Prompt]) -> tuple[tuple[Prompt, ...], int]:
    """The distinct prompts in the order they first appear, and how many repetitions were left out.

    A prompt listed twice would weigh twice in every mean; repeated images of one prompt are what seeds are for.
    """
    prompts = list(prompts)
    distinct = tuple({prompt.id: prompt for prompt in prompts}.values())
    return distinct, len(prompts) - len(distinct)


def first_prompts(suite: Suite, count: int | None) -> Suite:
    """The suite's first `count` prompts, under a name that says so.

    A suite whose prompts have tasks (a `tag` in their specs), which may come task after task, gives the first of each
    task in turn.
    """
    if count is None or count >= len(suite.prompts):
        return suite
    by_task: dict[str, list[Prompt]] = {}
    for prompt in suite.prompts:
        by_task.setdefault(str(prompt.spec.get("tag")), []).append(prompt)
    if len(by_task) == 1:
        return replace(suite, name=f"{suite.name}[:{count}]", prompts=suite.prompts[:count])
    ordered = [prompt for turn in zip_longest(*by_task.values()) for prompt in turn if prompt is not None]
    return replace(suite, name=f"{suite.name}[:{count} by task]", prompts=tuple(ordered[:count]))


def _line(prompt: Prompt) -> str:
    return prompt.canonical if prompt.spec else prompt.text
