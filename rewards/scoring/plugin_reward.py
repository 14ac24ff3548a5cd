"""A reward of somebody else's code, in the form of ours: whatever that code does is a sentence that names it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.card import Card
from rewards.errors import SetupError, UsageError
from rewards.prompt import Prompt
from rewards.reward import Reward
from rewards.scoring.isolation import undisturbed
from rewards.scoring.reward_faults import answered_wrong, broke_off
from rewards.shown import stable
from rewards.spec import RewardSpec


class Stranger(Reward):
    """An object of a plug-in's class; of what that class need not have, ours is taken.

    `score` is the author's own, since `batch` tells which images it fails for; `file` is where it is written.

    Raises, as all of its methods do:
        SetupError, UsageError: the author's own, or one for a library that is not installed.
        RewardBroken: a mistake in the author's code.
    """

    def __init__(self, made: Callable[[RewardSpec, Card], Any], spec: RewardSpec, card: Card) -> None:
        inside = _ask(spec, made, spec, card)
        own = getattr(inside, "card", None)  # an option may have changed its bounds
        super().__init__(spec, own if isinstance(own, Card) else card)
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

    def provenance(self) -> dict[str, str]:
        facts = _ask(self.spec, self._inside.provenance)
        if not isinstance(facts, Mapping) or not all(isinstance(text, str) for pair in facts.items() for text in pair):
            rule = 'which returns text by text, as in: return {"engine": "mine", "engine_version": "1"}'
            raise answered_wrong(self.spec.key, "provenance", facts, rule)
        return {name: stable(fact) for name, fact in facts.items()}

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
    except (Exception, SystemExit) as error:  # a stranger's code
        raise broke_off(spec.key, error) from error
