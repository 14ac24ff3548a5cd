"""The prompts of each iteration, by the run's seed and the iteration's number alone."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dgpo.config import Config
from dgpo.models.find import EMBEDDED
from dgpo.models.tiny.words import sign_prompts, training_words
from dgpo.noise import generator_of
from rewards.errors import UsageError
from rewards.prompt import Prompt, read_prompts


class PromptStream:
    """Goes through the prompts in a new order every epoch; has no state, so resuming needs none."""

    def __init__(self, prompts: Sequence[Prompt], seed: int):
        if not prompts:
            raise UsageError("There are no prompts to train on.")
        self.prompts, self.seed = list(prompts), seed

    def take(self, step: int, count: int) -> list[Prompt]:
        """The prompts of iteration `step` when every iteration takes `count`."""
        places = [divmod(place, len(self.prompts)) for place in range(step * count, (step + 1) * count)]
        orders = {epoch: self._order(epoch) for epoch in {epoch for epoch, _ in places}}
        return [self.prompts[orders[epoch][place]] for epoch, place in places]

    def _order(self, epoch: int) -> list[int]:
        generator = generator_of(self.seed * 1_000_003 + 77_777 + epoch)
        return torch.randperm(len(self.prompts), generator=generator).tolist()


def default_prompts(config: Config) -> list[Prompt]:
    """The prompt file that a config names, or the embedded model's own training prompts.

    Raises:
        UsageError: neither is there.
    """
    if config.prompts is not None:
        return read_prompts(Path(config.prompts))
    if config.model == EMBEDDED:
        return [Prompt(text) for text in sign_prompts(training_words())]
    raise UsageError("Say which prompts to train on: give `prompts`, or a prompt file in the config.")
