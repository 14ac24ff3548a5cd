"""What an iteration will cost and how it is cut, before it is run."""

from collections.abc import Callable, Mapping

import torch

from dgpo.algorithms.algorithm import find_algorithm
from dgpo.config import Config
from dgpo.parallel import Ranks

Cost = Callable[[float], int]
"""Passes through the network of one velocity at a guidance, which the model family knows (`Model.passes`)."""


def planned_passes(config: Config, cost: Cost, *, live_share: float = 1.0) -> dict[str, float]:
    """Transformer passes per image of one iteration, by purpose.

    Args:
        live_share: the share of groups that have reward variance; the others are skipped in learning.
    """
    algorithm = find_algorithm(config.algorithm)
    passes = algorithm.passes(config.learning, config.sampling, cost=cost, live_share=live_share)
    return passes | {"rollout": 0} if config.source.kind == "recorded" else passes


def passes_per_image(
    config: Config, cost: Cost, passes: Mapping[str, int], before: Mapping[str, int], ranks: Ranks
) -> dict[str, float]:
    """Passes made since `before` by the purposes of the plan, over an iteration's images, all ranks together."""
    names = list(planned_passes(config, cost))
    made = [passes.get(name, 0) - before.get(name, 0) for name in names]
    counts = ranks.sum(torch.tensor(made, dtype=torch.float64, device=ranks.device))
    return dict(zip(names, (counts / config.images).tolist(), strict=True))


def describe_passes(passes: dict[str, float]) -> str:
    """As the papers count: F forwards and B backwards an image.

    >>> describe_passes({"rollout": 20, "old": 4, "reference": 4, "current": 4, "backward": 4})
    '32F+4B per image: rollout 20, old 4, reference 4, current 4, backward 4'
    """
    forwards = sum(count for name, count in passes.items() if name != "backward")
    parts = ", ".join(f"{name} {count:g}" for name, count in passes.items() if count)
    return f"{forwards:g}F+{passes['backward']:g}B per image: {parts}"


def describe_geometry(config: Config, ranks: int) -> str:
    """How many images each rank draws and learns from at once."""
    share = -(-config.images // ranks)
    together = max(1, config.optimizer.micro_batch * ranks // config.group_size)
    per_pass = -(-min(together, config.groups) * config.group_size // ranks)
    note = ""
    if per_pass > config.optimizer.micro_batch:
        note = (
            f"; a rank's share of one group ({per_pass} images) is larger than optimizer.micro_batch "
            f"({config.optimizer.micro_batch}), which costs one more forward a time"
        )
    return (
        f"{config.groups} groups x {config.group_size} images on {ranks} process{'es' if ranks > 1 else ''}: "
        f"up to {share} images each, drawn {min(config.rollout.micro_batch, share)} and learned from "
        f"{min(per_pass, config.optimizer.micro_batch)} at a time{note}"
    )
