"""Which steps of a rollout are stochastic: all but the last, or a window of consecutive ones."""

import torch

from dgpo.algorithms.algorithm import Needs
from dgpo.noise import seeded_generator
from dgpo.sections import Rollout
from rewards.errors import UsageError


def kind_of_noise(settings: Rollout, needs: Needs) -> str:
    """`none`, `sde`, `cps` or `sa`: as the config says, or else as the algorithm needs."""
    if settings.noise is not None:
        return settings.noise
    return "sde" if needs.sampler == "sde" else "none"


def stochastic_steps(settings: Rollout, steps: int, *, seed: int = 0, iteration: int = 0) -> range:
    """The numbers of the stochastic steps of an iteration (from 0), the same on all ranks.

    Without a window all but the last step, which would end in noise. A window lies anywhere in `window_range`
    (Flow-GRPO-Fast: drawn for each iteration), or moves on by one step every `window_every` iterations and is cut at
    the end of the range (MixGRPO).
    """
    if settings.window is None:
        return range(steps - 1)
    first, end = settings.window_range or (0, steps // 2)
    if settings.window_every:
        start = first + iteration // settings.window_every % (end - first)
        return range(start, min(start + settings.window, end))
    generator = seeded_generator("window", seed, iteration)
    start = first + int(torch.randint(end - settings.window - first + 1, (), generator=generator))
    return range(start, start + settings.window)


def check_window(settings: Rollout, steps: int) -> None:
    """UsageError for a window that does not lie within a rollout of so many steps."""
    if settings.window is None:
        return
    first, end = settings.window_range or (0, steps // 2)
    if not 0 <= first < end <= steps or settings.window > end - first:
        raise UsageError(
            f"rollout.window is {settings.window}, which does not fit the steps {first} to {end} of "
            f"rollout.window_range in a rollout of {steps} steps; make it smaller, or the range larger."
        )
