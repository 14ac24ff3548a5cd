"""What has to be right before an evaluation begins, so that hours are not spent on the half that goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.prompt import Prompt
from rewards.spec import RewardSpec

SHOWN = 10


class Judges(Protocol):
    """Open rewards that can be asked: those of a `ScoringPool`, or those on the machines of a cluster."""

    @property
    def specs(self) -> Sequence[RewardSpec]: ...

    def wait_until_built(self) -> None: ...

    def find_problems(
        self, prompts: Sequence[Prompt], keys: Collection[str] | None = None
    ) -> Mapping[str, list[str | None]]: ...


def check_request(seeds: Sequence[int], specs: Sequence[RewardSpec]) -> None:
    """UsageError where no reward or no seed was named, or a seed twice."""
    if not specs:
        raise UsageError("No reward was named, and the suite has no default one; name one with --reward.")
    if not seeds:
        raise UsageError("No seed was asked for; --seeds has to be at least 1.")
    if len(set(seeds)) != len(seeds):
        raise UsageError("A seed was given twice; every seed is one image per prompt.")


def check_prompts(suite: Suite, pool: Judges, keys: Collection[str] | None = None) -> None:
    """All rewards of an open pool, or those of these keys, can be built and can judge every prompt.

    Raises:
        SetupError: a line for each reward that cannot be built here.
        UsageError: it names every reward and prompt that do not go together.
    """
    problems = []
    for key, answers in pool.find_problems(suite.prompts, keys).items():
        found = [answer for answer in answers if answer is not None]
        if found:
            problems.append(f"{key} cannot judge {len(found)} of {len(suite.prompts)} prompts:")
            problems += [f"  {sentence}" for sentence in found[:SHOWN]]
            if len(found) > SHOWN:
                problems.append(f"  and {len(found) - SHOWN} more.")
    if problems:
        raise UsageError(
            f"The prompts of {suite.name} do not go with these rewards; name other rewards with --reward, or other"
            " prompts.\n" + "\n".join(problems)
        )
