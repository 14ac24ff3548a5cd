"""Weighted sum of several rewards, as training uses it; each stays visible beside the sum."""

from collections.abc import Mapping, Sequence

from rewards.registry import find_card
from rewards.score import Score
from rewards.spec import RewardSpec


def combine(scores: Mapping[str, Sequence[Score]], specs: Sequence[RewardSpec]) -> list[Score]:
    """One training score an image: the sum over rewards of value * card.train_scale * train_weight.

    Args:
        scores: one list of equal length for the key of every spec.

    An image with a failed part has a failed sum, with the parts' reasons: a missing score is not a zero.
    """
    if not specs:
        raise ValueError("a sum of no rewards")
    columns = [scores[spec.key] for spec in specs]
    factors = [find_card(spec.name, spec.version).train_scale * spec.train_weight for spec in specs]
    keys = [spec.key for spec in specs]
    return [_sum_parts(keys, factors, parts) for parts in zip(*columns, strict=True)]


def _sum_parts(keys: Sequence[str], factors: Sequence[float], parts: Sequence[Score]) -> Score:
    reasons = [f"{key}: {part.reason}" for key, part in zip(keys, parts, strict=True) if not part.ok]
    if reasons:
        return Score.failed("; ".join(reasons))
    total = sum(factor * part.value for factor, part in zip(factors, parts, strict=True) if part.value is not None)
    return Score(total, "; ".join(f"{key}={part.value:g}" for key, part in zip(keys, parts, strict=True))).checked()
