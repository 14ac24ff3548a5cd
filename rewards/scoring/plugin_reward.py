"""A plug-in's reward in the form of ours: whatever its code does is a sentence that names it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.card import Card
from rewards.errors import SetupError, UsageError
from rewards.escape import without_addresses
from rewards.finding import Finding
from rewards.prompt import Prompt
from rewards.reward import Reward
from rewards.scoring.isolation import undisturbed
from rewards.scoring.reward_faults import answered_wrong, broke_off
from rewards.spec import RewardSpec


class PluginReward(Reward):
    """An object of a plug-in's class, which need not derive from ours: of what it does not have, ours is taken.

    `score` is the author's own, since `batch` tells which images it fails for; `file` is where it is written.

    Raises, as all of its methods do:
        SetupError, UsageError: the author's own, or one for a library that is not installed.
        RewardBroken: a mistake in the author's code.
    """

    def __init__(self, made: Callable[[RewardSpec, Card], Any], spec: RewardSpec, card: Card) -> None:
        inside = _ask(spec, made, spec, card)
        super().__init__(spec, card)
        self.file = getattr(sys.modules[made.__module__], "__file__", None) or ""
        self.remote = bool(getattr(inside, "remote", False))
        self.score = inside.score
        self._inside = inside

    def prepare_checks(self, prompts: Sequence[Prompt]) -> None:
        self._tell("prepare_checks", "which returns nothing", prompts)

    def check(self, prompt: Prompt) -> None:
        self._tell("check", "which returns nothing, and raises UsageError for a prompt that it cannot judge", prompt)

    def verify(self) -> None:
        self._tell("verify", "which returns nothing, and raises SetupError where it cannot judge any image")

    def forget(self) -> None:
        self._tell("forget", "which returns nothing, and lets go of what is large")

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        if not hasattr(self._inside, "self_checks"):
            return []
        found = _ask(self.spec, self._inside.self_checks, pictures)
        if not isinstance(found, list) or not all(isinstance(one, Finding) for one in found):
            raise answered_wrong(self.spec.key, "self_checks", found, "which returns a list of rewards.finding.Finding")
        return found

    def provenance(self) -> dict[str, str]:
        facts = _ask(self.spec, self._inside.provenance)
        if not isinstance(facts, Mapping) or not all(isinstance(text, str) for pair in facts.items() for text in pair):
            rule = 'which returns text by text, as in: return {"engine": "mine", "engine_version": "1"}'
            raise answered_wrong(self.spec.key, "provenance", facts, rule)
        return {name: without_addresses(fact) for name, fact in facts.items()}

    def _tell(self, method: str, rule: str, *what: Any) -> None:
        """Call a method that has nothing to answer, where there is one."""
        if (work := getattr(self._inside, method, None)) is None:
            return
        answer = _ask(self.spec, work, *what)
        if answer is not None:
            raise answered_wrong(self.spec.key, method, answer, rule)


def _ask(spec: RewardSpec, work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        with undisturbed():
            return work(*arguments)
    except (SetupError, UsageError):
        raise
    except ModuleNotFoundError as error:
        raise SetupError(f"The reward {spec.key} needs {error.name}, which is not installed here.") from error
    except (Exception, SystemExit) as error:  # anything can come of a plug-in
        raise broke_off(spec.key, error) from error
