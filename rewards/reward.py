"""Reward: what every judge of images looks like to the trainer and to the evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from rewards.card import Card
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from PIL.Image import Image


class Reward(Protocol):
    """Scores images one by one: an image's score depends on that image and its prompt alone, never on the batch."""

    spec: RewardSpec
    card: Card

    def check(self, prompt: Prompt) -> None:
        """Raise UsageError, naming the prompt, when this reward cannot judge any image of it."""
        ...

    def score(self, images: "Sequence[Image]", prompts: Sequence[Prompt]) -> list[Score]:
        """One score an image, in order; raises ScoringError when the engine cannot judge one of them."""
        ...

    def provenance(self) -> dict[str, str]:
        """Engine, its version and the weights files with their sha256, recorded with every run."""
        ...
