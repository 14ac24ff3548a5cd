"""What single images are worth at one time, for methods that weigh denoising errors: no pairs, no groups.

Shapes: B images of this rank, each at a noise level of its own; C, H, W of the latent; one value per image is given, to
be averaged by who calls.
"""

from typing import Literal

import torch

Weighting = Literal["ghuber", "huber", "sigma", "uniform"]
FLOOR = 1e-5  # of mean(|x0 - x0_predicted|), which may be 0
SMALL = 1e-10
ELBO_NOISE = 0.7


def scaled_error(
    prediction_BCHW: torch.Tensor, x_BCHW: torch.Tensor, x0_BCHW: torch.Tensor, sigma_B: torch.Tensor
) -> torch.Tensor:
    """DiffusionNFT's error (Zheng et al. 2025, released code): mean d^2 / mean |d|, d = (x - sigma v) - x0; [B].

    The divisor carries no gradient and is at least 1e-5; with it an image's error counts alike at every time.
    """
    off = x_BCHW - _wide(sigma_B, x_BCHW) * prediction_BCHW - x0_BCHW
    size_B = off.detach().double().abs().flatten(1).mean(dim=1).clamp(min=FLOOR)
    return off.square().flatten(1).mean(dim=1) / size_B


def optimality(advantage_B: torch.Tensor, limit: float) -> torch.Tensor:
    """r = clamp(A / (2 limit) + 1/2, 0, 1): the share of an image that counts as good (DiffusionNFT, Eq. 8); [B]."""
    return (advantage_B.clamp(-limit, limit) / (2 * limit) + 0.5).clamp(0, 1)


def contrast(
    prediction_BCHW: torch.Tensor,
    old_BCHW: torch.Tensor,
    x_BCHW: torch.Tensor,
    x0_BCHW: torch.Tensor,
    sigma_B: torch.Tensor,
    optimality_B: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """DiffusionNFT's loss of an image, (r e+ + (1 - r) e-) / beta (Zheng et al. 2025, arXiv 2509.16117, Eq. 5); [B].

    e+ is the error of (1 - beta) v_old + beta v, e- that of its mirror image (1 + beta) v_old - beta v.
    """
    towards, away = (1 - beta) * old_BCHW + beta * prediction_BCHW, (1 + beta) * old_BCHW - beta * prediction_BCHW
    good_B = scaled_error(towards, x_BCHW, x0_BCHW, sigma_B)
    bad_B = scaled_error(away, x_BCHW, x0_BCHW, sigma_B)
    return (optimality_B * good_B + (1 - optimality_B) * bad_B) / beta


def likelihood(error_B: torch.Tensor, sigma_B: torch.Tensor, weighting: Weighting, power: float) -> torch.Tensor:
    """AWM's log p of an image at one time (Xue et al. 2025, arXiv 2509.25050), from its mean squared error; [B].

    Args:
        weighting: uniform -l; sigma -l sigma; huber -(sqrt(l + 1e-10) - 1e-5) sigma; ghuber
            -((l + 1e-10)^power - 1e-10^power) sigma / power, the released presets' with power 1/4.
    """
    if weighting == "uniform":
        return -error_B
    if weighting == "sigma":
        return -error_B * sigma_B
    if weighting == "huber":
        return -((error_B + SMALL).sqrt() - SMALL**0.5) * sigma_B
    return -((error_B + SMALL) ** power - SMALL**power) * sigma_B / power


def drift(prediction_BCHW: torch.Tensor, other_BCHW: torch.Tensor) -> torch.Tensor:
    """mean((v - v_other)^2) over the latent's dimensions; [B]."""
    return (prediction_BCHW - other_BCHW).square().flatten(1).mean(dim=1)


def elbo_scale(sigma: float) -> float:
    """2 u^2 of AWM's anchors weighted as in a likelihood's bound, u = 0.7 sqrt(sigma / (1 - sigma)) below 0.99."""
    return 2 * ELBO_NOISE**2 * sigma / (1 - min(sigma, 0.99))


def _wide(value_B: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
    return value_B.view(-1, *[1] * (like_BCHW.dim() - 1))
