"""Reward: what every judge of images looks like to the trainer and to the evaluation."""

import importlib.metadata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from rewards.card import Card
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from PIL.Image import Image

DEADLINE_S = 1800.0  # for a batch; a reward that takes longer counts as hung


class Reward(Protocol):
    """Scores images one by one: an image's score depends on that image and its prompt alone, never on the batch.

    A class need not derive from this one; one that does has to write `score` only. Its options are read by
    `card.settle_options(spec.options)`.
    """

    spec: RewardSpec
    card: Card

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
        ...

    def provenance(self) -> dict[str, str]:
        """Engine, its version and the weights files with their sha256, recorded with every run."""
        return {"engine": type(self).__qualname__, "engine_version": _version_of(type(self)), "weights": "none"}


def _version_of(kind: type) -> str:
    """Version of the package that a class comes from; none for a file of its own."""
    top = kind.__module__.partition(".")[0]
    packages = importlib.metadata.packages_distributions().get(top, [])
    return f"{packages[0]} {importlib.metadata.version(packages[0])}" if packages else "none"
