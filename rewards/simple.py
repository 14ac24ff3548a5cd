"""A reward by its name, for scripts and notebooks: `rewards.load("ocr").score(images, prompts)`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rewards.errors import UsageError
from rewards.parse import parse_judges
from rewards.prompt import Prompt
from rewards.registry import build
from rewards.score import Score
from rewards.scoring.batch import score_batch
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from PIL.Image import Image


class Scorer:
    """One reward, built in this process."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec, self.reward = spec, build([spec])[spec.key]
        self.card = self.reward.card

    def score(self, images: "Sequence[Image]", prompts: Sequence[Prompt | str]) -> list[Score]:
        """One score per image, in order; an image that cannot be judged has a score without a value, and its reason.

        Raises:
            UsageError: not as many prompts as images, or a prompt that this reward cannot judge.
        """
        if len(images) != len(prompts):
            raise UsageError(f"{len(images)} images and {len(prompts)} prompts were given; give one prompt per image.")
        asked = [prompt if isinstance(prompt, Prompt) else Prompt(prompt) for prompt in prompts]
        self.reward.prepare_checks(asked)
        for prompt in asked:
            self.reward.check(prompt)
        key = self.spec.key
        return score_batch({key: self.reward}, list(images), asked).scores[key]


def load(reward: RewardSpec | str, *, weights: str | None = None) -> Scorer:
    """The reward of a spec, or of words as `--reward` takes them: `ocr`, `ocr[weights=v4]`, `path/to/file.py:Class`.

    Args:
        weights: a local folder with its weights.

    Raises:
        UsageError: the words name no reward, or several.
        SetupError: its library or weights are missing here.
    """
    if isinstance(reward, RewardSpec):
        return Scorer(reward)
    specs = parse_judges([reward], weights=() if weights is None else [f"{reward.partition('[')[0]}={weights}"])
    if len(specs) != 1:
        names = ", ".join(spec.key for spec in specs)
        raise UsageError(f'"{reward}" stands for several rewards ({names}); load one of them.')
    return Scorer(specs[0])
