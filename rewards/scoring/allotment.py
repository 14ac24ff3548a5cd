"""Which scoring processes build which rewards."""

from collections.abc import Callable, Sequence

from rewards.registry import card_of
from rewards.spec import RewardSpec

Allotment = list[tuple[tuple[RewardSpec, ...], int]]
"""Rewards, and how many processes build and score by all of them."""


def allot(specs: Sequence[RewardSpec], workers: int, on_gpu: Callable[[RewardSpec], bool]) -> Allotment:
    """Rewards whose networks are on a GPU share one process, and all others have the `workers`.

    Each more process would hold all networks again, on the GPU that others wait for, and score no faster.
    """
    there = tuple(spec for spec in specs if on_gpu(spec))
    here = tuple(spec for spec in specs if spec not in there)
    return [*([(there, 1)] if there else []), *([(here, workers)] if here or not there else [])]


def is_on_gpu(spec: RewardSpec, has_gpu: Callable[[], bool] | None = None) -> bool:
    """Whether a reward computes on a GPU, by its card's option `device`.

    Args:
        has_gpu: whether the machine that scores has one; this machine is asked unless it is another.
    """
    device = {**{option.name: option.default for option in card_of(spec).options}, **dict(spec.options)}.get("device")
    if device is None:
        return False
    if device != "auto":
        return device != "cpu"
    return (has_gpu or _has_gpu)()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
