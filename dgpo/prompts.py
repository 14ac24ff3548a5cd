"""The prompts of each iteration, by the run's seed and the iteration's number alone."""

from collections.abc import Sequence

import torch

from dgpo.flow import generator_of
from rewards.errors import UsageError
from rewards.prompt import Prompt


class PromptStream:
    """Goes through the prompts in a new order every epoch; has no state, so resuming needs none."""

    def __init__(self, prompts: Sequence[Prompt], seed: int):
        if not prompts:
            raise UsageError("There are no prompts to train on.")
        self.prompts, self.seed = list(prompts), seed

    def take(self, step: int, count: int) -> list[Prompt]:
        """The prompts of iteration `step` when every iteration takes `count`."""
        places = range(step * count, (step + 1) * count)
        return [self.prompts[self._order(place // len(self.prompts))[place % len(self.prompts)]] for place in places]

    def _order(self, epoch: int) -> list[int]:
        generator = generator_of(self.seed * 1_000_003 + 77_777 + epoch)
        return torch.randperm(len(self.prompts), generator=generator).tolist()
