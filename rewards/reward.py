"""Reward: what every judge of images looks like to the trainer and to the evaluation."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rewards.card import Card
from rewards.finding import Finding
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.shared import let_go
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from PIL.Image import Image

DEADLINE_S = 1800.0  # for a batch; a reward that takes longer counts as hung


class Reward:
    """Scores images one by one: an image's score depends on that image and its prompt alone, never on the batch.

    A class that derives from this one has to write `score` only; all else has an answer that fits most rewards. Its
    options are read by `card.settle_options(spec.options)`.

    Args:
        card: that of the variant, see `Card.settled`.
    """

    large: tuple[str, ...] = ()
    """Names of the cached properties that hold what is large; `forget` drops them."""
    remote: bool = False
    """Whether it waits for a server, so that others may compute meanwhile."""
    file: str = ""
    """Where its author wrote it, to name a line of it that breaks; nothing for ours, which say what is wrong."""

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        self.spec, self.card = spec, card

    def prepare_checks(self, prompts: Sequence[Prompt]) -> None:
        """Be told which prompts `check` will be asked about, where that is quicker for many at once."""
        return

    def check(self, prompt: Prompt) -> None:
        """Raise UsageError, naming the prompt, when this reward cannot judge any image of it."""
        return

    def verify(self) -> None:
        """Try what was loaded, once before a training: raise SetupError where it plainly cannot judge any image."""
        return

    def score(self, images: "Sequence[Image]", prompts: Sequence[Prompt]) -> list[Score]:
        """One score per image, in order; raises ScoringError when the engine cannot judge one of them."""
        raise NotImplementedError(f"{type(self).__name__} is a reward that does not score")

    def provenance(self) -> dict[str, str]:
        """Engine, its version and the weights files with their sha256, recorded with every run."""
        return {"engine": type(self).__qualname__, "engine_version": _version_of(type(self)), "weights": "none"}

    @classmethod
    def rule_checks(cls, key: str) -> list[Finding]:
        """What `dgpo rewards check` can tell without weights: of rules, say."""
        return []

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        """What `dgpo rewards check` can tell of what was loaded, besides files and published scores (the card's).

        Args:
            pictures: a folder of the user's, where one was given.
        """
        return []

    def forget(self) -> None:
        """Let go of what is large: networks, engines; what another reward has too stays with that one.

        The next score loads it again.
        """
        for name in self.large:
            vars(self).pop(name, None)
        let_go()


def _version_of(kind: type) -> str:
    """Version of the package that a class comes from; none for a file of its own."""
    top = kind.__module__.partition(".")[0]
    packages = importlib.metadata.packages_distributions().get(top, [])
    return f"{packages[0]} {importlib.metadata.version(packages[0])}" if packages else "none"
