"""The clipped ratio of policy gradients (Schulman et al. 2017, Eq. 7), for one step of each image.

Shapes: B images of this rank; every function gives one value per image, to be averaged by who calls.
"""

import torch


def clipped_objective(ratio_B: torch.Tensor, advantage_B: torch.Tensor, clip: float) -> torch.Tensor:
    """max(-A ratio, -A clamp(ratio, 1 - clip, 1 + clip)): the pessimistic one of both; [B]."""
    return torch.maximum(-advantage_B * ratio_B, -advantage_B * ratio_B.clamp(1 - clip, 1 + clip))


def is_clipped(ratio_B: torch.Tensor, advantage_B: torch.Tensor, clip: float) -> torch.Tensor:
    """Images whose gradient is 0, as they are further than `clip` from the old policy to the side of more; bool [B]."""
    return torch.where(advantage_B > 0, ratio_B > 1 + clip, (ratio_B < 1 - clip) & (advantage_B < 0))


def guarded_log_ratio(
    log_ratio_B: torch.Tensor, mean_BCHW: torch.Tensor, old_mean_BCHW: torch.Tensor, deviation: float, over: str
) -> torch.Tensor:
    """GRPO-Guard's (arXiv 2510.22319): (log p - log p_old + bias) deviation, centred and of one size at every time.

    The bias is mean((mean - mean_old)^2) / (2 deviation^2), with its gradient.

    Args:
        over: `image` (the paper's, and two later codes'), or `batch`: the released code's, one number for all images.
    """
    square_BD = (mean_BCHW - old_mean_BCHW).square().flatten(1)
    bias = (square_BD.mean(dim=1) if over == "image" else square_BD.mean()) / (2 * deviation**2)
    return (log_ratio_B + bias) * deviation
