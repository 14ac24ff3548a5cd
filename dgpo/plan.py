"""What an iteration will cost and how it is cut, before it is run."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from dgpo.algorithms.algorithm import Planned, find_algorithm
from dgpo.config import Config
from dgpo.parallel import Ranks
from dgpo.stochastic import STEPS
from dgpo.windows import check_window, kind_of_noise, stochastic_steps
from rewards.errors import UsageError

AHEAD = "ahead"
"""The snapshot of the weights that the batch in flight was drawn by (`prefetch`)."""
ALMOST_NOISE = 0.99  # above it the SDE's first step would be ten times as noisy as the noise level says
Cost = Callable[[float], int]
"""Passes through the network of one velocity at a guidance, which the model family knows (`Model.passes`)."""


def planned_passes(config: Config, cost: Cost, *, live_share: float = 1.0) -> dict[str, float]:
    """Transformer passes per image of one iteration, by purpose.

    Args:
        live_share: the share of groups that have reward variance; the others are skipped in learning.
    """
    guidance = config.sampling.guidance
    rollout = 0 if config.source.kind == "recorded" else config.sampling.steps * cost(guidance)
    iteration = Planned(guidance, len(planned_steps(config)), config.group_size, live_share, cost)
    learning = find_algorithm(config.algorithm).passes(config.learning, iteration)
    recomputed = {"recompute": learning["backward"]} if config.training.checkpointing is True else {}
    return {"rollout": rollout, **learning, **recomputed}


def planned_steps(config: Config) -> range:
    """The stochastic steps of the first iteration's rollout."""
    needs = find_algorithm(config.algorithm).needs(config.learning)
    if config.source.kind == "recorded" or kind_of_noise(config.rollout, needs) not in STEPS:
        return range(0)
    return stochastic_steps(config.rollout, config.sampling.steps, seed=config.seed)


def weights_kept(config: Config) -> list[str]:
    """Names of the copies of the trained weights that a training keeps beside them."""
    kept = set(find_algorithm(config.algorithm).needs(config.learning).snapshots)
    if config.rollout.old_after is not None:
        kept.add("old")
    if config.averages.evaluation_decay > 0:
        kept.add("average")
    if config.rollout.ahead:
        kept.add(AHEAD)
    return sorted(kept)


def check_rollout(config: Config) -> None:
    """UsageError where the rollout is not one that the algorithm can learn from, or cannot be made."""
    name, settings = config.algorithm, config.rollout
    if settings.ahead and config.source.kind == "recorded":
        raise UsageError("rollout.ahead draws an iteration ahead, and a results folder is not drawn; leave it out.")
    needs = find_algorithm(name).needs(config.learning)
    noise = kind_of_noise(settings, needs)
    if needs.trajectory and config.source.kind == "recorded":
        raise UsageError(
            f"{name} learns from the steps of its own rollout, and a results folder keeps only the images; draw them "
            "(leave --from out), or choose another --algorithm."
        )
    if needs.sampler == "ode" and noise != "none":
        raise UsageError(
            f"{name} learns from images of an ODE, and rollout.noise is {noise}; leave it out, or choose another "
            "--algorithm."
        )
    if needs.sampler == "sde" and noise == "none":
        raise UsageError(f"{name} learns from noise that the rollout adds, and rollout.noise is none; use sde or cps.")
    if needs.trajectory and noise == "sa":
        raise UsageError(
            f"{name} needs the likelihood of each step, and those of rollout.noise=sa have none; use sde or cps."
        )
    if noise == "none":
        if settings.window is not None or settings.noise_level is not None:
            raise UsageError("rollout.noise_level and rollout.window are for a rollout with rollout.noise.")
        return
    if config.sampling.sampler != "euler":
        raise UsageError(
            f"rollout.noise={noise} takes its steps on the table of sampling.sampler=euler, and it is "
            f"{config.sampling.sampler}; on a table that does not begin at 1 the first step would explode."
        )
    if config.sampling.steps < 2:
        raise UsageError("A stochastic rollout needs sampling.steps of 2 or more: its last step adds no noise.")
    if noise == "sa" and settings.window is not None:
        raise UsageError("rollout.window is for rollout.noise=sde and cps; sa adds its noise between two noise levels.")
    if noise != "sa" and settings.noise_level == 0:
        raise UsageError(f"rollout.noise={noise} needs a rollout.noise_level above 0; an ODE is rollout.noise=none.")
    check_window(settings, config.sampling.steps)


def check_first_step(config: Config, times: Sequence[float]) -> None:
    """UsageError where the SDE's first step would explode: on a table (sigma, first to last) that begins just below 1.

    Its rate of noise is a sqrt(sigma / (1 - sigma)); at 1 itself another number stands for it.
    """
    noise = kind_of_noise(config.rollout, find_algorithm(config.algorithm).needs(config.learning))
    if config.source.kind != "recorded" and noise == "sde" and ALMOST_NOISE < times[0] < 1:
        raise UsageError(
            f"The model's times begin at {times[0]:.4f}, where the first step of rollout.noise=sde would explode; take "
            "rollout.noise=cps, or give the model a FlowMatchEulerDiscreteScheduler (scheduler/scheduler_config.json)."
        )


def check_trajectory(config: Config, shape: Sequence[int], ranks: Ranks, free: int) -> None:
    """UsageError where a rank cannot hold the trajectories of its images; nothing is drawn yet.

    Args:
        shape: of a latent.
        free: bytes of memory.
    """
    images, states = images_of_a_rank(config, ranks.size), states_kept(config)
    size = images * states * math.prod(shape) * 4  # fp32
    if size > free:
        raise UsageError(
            f"The trajectories of {images} images take {size / 2**30:.1f} GiB ({states} latents each), and "
            f"{free / 2**30:.1f} GiB of memory are free. Make rollout.window, groups or group_size smaller, or start "
            "more processes."
        )


def images_of_a_rank(config: Config, ranks: int) -> int:
    """The most that one of them draws and learns from in an iteration."""
    return -(-config.images // ranks)


def drawn_at_once(config: Config, ranks: int) -> int:
    """Images of a rank's rollout that are in the network together."""
    return min(config.rollout.micro_batch, images_of_a_rank(config, ranks))


def learned_at_once(config: Config, ranks: int) -> int:
    """The most images of a rank's backward pass."""
    return min(_images_a_pass(config, ranks), config.optimizer.micro_batch)


def _images_a_pass(config: Config, ranks: int) -> int:
    """Of whole groups, as many as fit into the micro-batches of all ranks, but one at least."""
    together = max(1, config.optimizer.micro_batch * ranks // config.group_size)
    return -(-min(together, config.groups) * config.group_size // ranks)


def states_kept(config: Config) -> int:
    """Latents of each image that an algorithm learns from beside the image itself."""
    needs = find_algorithm(config.algorithm).needs(config.learning)
    steps = len(planned_steps(config))
    return steps + 1 + (steps if needs.means else 0) if needs.trajectory else 0


def passes_per_image(config: Config, cost: Cost, made: Mapping[str, int], ranks: Ranks) -> dict[str, float]:
    """What each rank has made by the purposes of the plan, over an iteration's images, all ranks together."""
    names = list(planned_passes(config, cost))
    made_here = [made.get(name, 0) for name in names]
    counts = ranks.sum(torch.tensor(made_here, dtype=torch.float64, device=ranks.device))
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
    share, per_pass = images_of_a_rank(config, ranks), _images_a_pass(config, ranks)
    note = ""
    if per_pass > config.optimizer.micro_batch:
        note = (
            f"; a rank's share of one group ({per_pass} images) is larger than optimizer.micro_batch "
            f"({config.optimizer.micro_batch}), which costs one more forward a time"
        )
    return (
        f"{config.groups} groups x {config.group_size} images on {ranks} process{'es' if ranks > 1 else ''}: "
        f"up to {share} images each, drawn {drawn_at_once(config, ranks)} and learned from "
        f"{learned_at_once(config, ranks)} at a time{note}"
    )
