"""One optimiser step out of the gradients that an algorithm has left, the same on every rank."""

import math

import torch

from dgpo.parallel import Ranks
from dgpo.sections import Optimizer as Settings


class NotFinite(ArithmeticError):
    """A gradient is NaN or infinite, so no step was taken with it."""


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with a linear warm-up and a limit on the gradient's norm."""

    def __init__(self, settings: Settings, parameters: list[torch.nn.Parameter], ranks: Ranks) -> None:
        self.settings, self.parameters, self.ranks = settings, parameters, ranks
        self.adamw = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        )
        self.gradient_norm = 0.0
        """Of the latest step, before it was limited."""

    @property
    def learning_rate(self) -> float:
        return self.adamw.param_groups[0]["lr"]

    def step(self, done: int) -> None:
        """Sum the gradients over the ranks, limit their norm, and take the step that follows `done` others.

        Raises:
            NotFinite: on every rank, as the sum is the same.
        """
        self.ranks.sum_gradients(self.parameters)
        settings = self.settings
        self.gradient_norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, settings.max_norm))
        if not math.isfinite(self.gradient_norm):
            raise NotFinite
        rise = min(1.0, (done + 1) / settings.warm_up) if settings.warm_up else 1.0
        for group in self.adamw.param_groups:
            group["lr"] = settings.learning_rate * rise
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
