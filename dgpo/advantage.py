"""Advantages of images within their groups (Luo et al. 2025, Eq. 12; Shao et al. 2024).

Shapes: R rewards, K prompts, G images of each. A failed score is NaN: it takes part in no mean, and its image has
advantage 0.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from dgpo.sections import Advantage


def standardise(
    scores_KG: torch.Tensor,
    *,
    std: Literal["group", "batch"] = "group",
    epsilon: float = 1e-4,
    clamp: float | None = 5.0,
) -> torch.Tensor:
    """How much better each image is than its group, in standard deviations; float64 [K, G].

    A = (r - mean of the group) / (deviation + epsilon), with the population deviation of the group, or of all scores of
    the batch about their common mean (`std="batch"`, the released code's choice for OCR and PickScore). A group whose
    scores are all equal, or of which fewer than two images were scored, gets zeros.

    >>> standardise(torch.tensor([[0.0, 1.0]]), epsilon=0.0)
    tensor([[-1.,  1.]], dtype=torch.float64)
    """
    scores = scores_KG.double()
    scored = ~scores.isnan()
    mean = scores.nanmean(dim=1, keepdim=True)
    if std == "group":
        deviation = (scores - mean).square().nanmean(dim=1, keepdim=True).sqrt()
    else:
        deviation = (scores - scores.nanmean()).square().nanmean().sqrt()
    advantage = (scores - mean) / (deviation + epsilon)
    advantage = torch.where(scored & ~dead_groups(scores_KG)[:, None], advantage, 0.0)
    return advantage if clamp is None else advantage.clamp(-clamp, clamp)


def whiten(mixed_KG: torch.Tensor, *, epsilon: float = 1e-4, clamp: float | None = 5.0) -> torch.Tensor:
    """GDPO's second step (Liu et al. 2026, arXiv 2601.05242): over the whole batch, by the sample deviation; [K, G].

    A group whose mixed scores are all equal gets zeros, as does an image without a score.
    """
    values = mixed_KG.double()
    known = values[~values.isnan()]
    if len(known) < 2:
        return torch.zeros_like(values)
    advantage = (values - known.mean()) / (known.std() + epsilon)
    advantage = torch.where(~values.isnan() & ~dead_groups(mixed_KG)[:, None], advantage, 0.0)
    return advantage if clamp is None else advantage.clamp(-clamp, clamp)


def standardise_by_sample(part_KG: torch.Tensor, epsilon: float) -> torch.Tensor:
    """GDPO's first step: (r - mean of the group) / (sample deviation of the group + epsilon), 0 in a dead group."""
    values = part_KG.double()
    mean = values.nanmean(dim=1, keepdim=True)
    count = (~values.isnan()).sum(dim=1, keepdim=True)
    deviation = ((values - mean).square().nansum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    standard = (values - mean) / (deviation + epsilon)
    return torch.where(values.isnan(), torch.nan, torch.where(dead_groups(part_KG)[:, None], 0.0, standard))


def mix(
    parts_RKG: torch.Tensor,
    weight_R: torch.Tensor,
    *,
    per_reward: bool = False,
    gdpo: bool = False,
    epsilon: float = 1e-4,
) -> torch.Tensor:
    """One training score per image: the weighted sum of its rewards; float64 [K, G].

    With `per_reward` each reward is first standardised within its group (population deviation plus `epsilon`), so that
    a weight says how much a reward counts, however far its values lie apart; a reward that is the same for a whole
    group then adds 0 there. So with `gdpo`, by the sample deviation. An image of which one part failed has no score and
    takes part in no mean of the others.

    >>> mix(torch.tensor([[[0.0, 1.0]], [[10.0, 30.0]]]), torch.tensor([0.75, 0.25]), per_reward=True, epsilon=0.0)
    tensor([[-1.,  1.]], dtype=torch.float64)
    """
    failed_KG = parts_RKG.isnan().any(dim=0)
    parts = parts_RKG.double().masked_fill(failed_KG, torch.nan)
    if gdpo:
        parts = torch.stack([standardise_by_sample(part_KG, epsilon) for part_KG in parts])
    elif per_reward:
        parts = torch.stack([standardise(part_KG, epsilon=epsilon, clamp=None) for part_KG in parts])
    # One addition after another: equal parts must have equal sums to the last bit, or a dead group would seem alive.
    mixed_KG = torch.zeros_like(parts[0])
    for weight, part_KG in zip(weight_R.tolist(), parts, strict=True):
        mixed_KG = mixed_KG + weight * part_KG
    return mixed_KG.masked_fill(failed_KG, torch.nan)


def mix_rewards(
    parts_RKG: torch.Tensor, scales: Sequence[float], weights: Sequence[float], settings: Advantage
) -> tuple[torch.Tensor, torch.Tensor]:
    """A mix [K, G] as it is reported, in training's scale, and as it is learned from; the same unless its parts are
    standardised (`per_reward`, `gdpo`)."""
    scale_R, weight_R = (torch.tensor(values, dtype=torch.float64) for values in (scales, weights))
    scaled_RKG = parts_RKG * scale_R[:, None, None]
    scores_KG = mix(scaled_RKG, weight_R)
    if not settings.per_reward and not settings.gdpo:
        return scores_KG, scores_KG
    learned_KG = mix(scaled_RKG, weight_R, per_reward=True, gdpo=settings.gdpo, epsilon=settings.epsilon)
    return scores_KG, learned_KG


def spread(scores_KG: torch.Tensor) -> torch.Tensor:
    """Deviation of the scores about the mean of their group, over all groups."""
    return (scores_KG - scores_KG.nanmean(dim=1, keepdim=True)).square().nanmean().sqrt()


def dead_groups(scores_KG: torch.Tensor) -> torch.Tensor:
    """Groups that cannot teach: all scored images equal, or fewer than two scored; bool [K]."""
    scored = ~scores_KG.isnan()
    highest = torch.where(scored, scores_KG, -torch.inf).amax(dim=1)
    lowest = torch.where(scored, scores_KG, torch.inf).amin(dim=1)
    return (scored.sum(dim=1) < 2) | (highest <= lowest)
