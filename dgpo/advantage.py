"""Advantages of images within their groups (Luo et al. 2025, Eq. 12; Shao et al. 2024).

Shapes: K prompts, G images of each. A failed score is NaN: it takes part in no mean, and its image has advantage 0.
"""

from typing import Literal

import torch


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


def dead_groups(scores_KG: torch.Tensor) -> torch.Tensor:
    """Groups that cannot teach: all scored images equal, or fewer than two scored; bool [K]."""
    scored = ~scores_KG.isnan()
    highest = torch.where(scored, scores_KG, -torch.inf).amax(dim=1)
    lowest = torch.where(scored, scores_KG, torch.inf).amin(dim=1)
    return (scored.sum(dim=1) < 2) | (highest <= lowest)
