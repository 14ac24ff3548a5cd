"""The group preference objective (Luo et al. 2025, arXiv 2510.08425, Eq. 12-17) in the velocity form.

Shapes: K prompts per iteration, G images of each; B images on this rank, cut anywhere; group_B numbers the prompts
alike on all ranks. Errors are the mean squared errors of the model's path (`dgpo.paths`), at one time and with one
noise per group.
"""

from collections.abc import Callable

import torch


def group_margins(
    error_B: torch.Tensor,
    reference_error_B: torch.Tensor,
    advantage_B: torch.Tensor,
    group_B: torch.Tensor,
    *,
    groups: int,
    group_size: int,
    beta: float,
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """margin_k = beta / G * sum_i A_i (error_i - reference_error_i), without gradient; float64 [K].

    The signed sum holds both sums of Eq. 17: |A| weighs the better images (A > 0) and the worse ones (A <= 0).
    """
    contribution = advantage_B.double() * (error_B.detach().double() - reference_error_B.double())
    margin_K = torch.zeros(groups, dtype=torch.float64, device=error_B.device)
    margin_K.index_add_(0, group_B, contribution)
    return sum_over_ranks(margin_K) * (beta / group_size)


def image_weights(margin_K: torch.Tensor, advantage_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """G times the derivative of a group's loss with respect to error_i: sigmoid(margin of its group) A_i; float64 [B].

    Eq. 17's loss of a group is softplus(margin_k); over beta, its derivative is sigmoid(margin_k) A_i / G. So only K
    margins travel between ranks, and learning rate, clip and KL weight keep their meaning when beta changes, as in the
    released code.
    """
    return torch.sigmoid(margin_K)[group_B] * advantage_B.double()


def unclipped(error_B: torch.Tensor, old_error_B: torch.Tensor, advantage_B: torch.Tensor, clip: float) -> torch.Tensor:
    """Images whose gradient counts, by the released code's clip on ratio = exp(old_error - error); bool [B].

    An image that is already better (A > 0, ratio > 1 + clip) or worse (A <= 0, ratio < 1 - clip) than under the old
    policy by more than the clip is left alone.
    """
    ratio = torch.exp(old_error_B.double() - error_B.detach().double())
    return ~torch.where(advantage_B > 0, ratio > 1 + clip, ratio < 1 - clip)


def preference_loss(error_B: torch.Tensor, weight_B: torch.Tensor, images: int) -> torch.Tensor:
    """This rank's share of mean_k softplus(margin_k) / beta, as a function with the same gradient.

    `weight_B` comes from `image_weights` and carries no gradient; `images` is K * G over all ranks.
    """
    return (weight_B.to(error_B) * error_B).sum() / images


def reported_loss(margin_K: torch.Tensor, beta: float) -> torch.Tensor:
    """Eq. 17 over beta, averaged over the groups: what a curve shows."""
    return torch.nn.functional.softplus(margin_K).mean() / beta
