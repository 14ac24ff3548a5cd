"""Paths between image and noise: how an image is noised, what the network should predict there, and how far it is off.

A family names the path that it was trained on; algorithms ask the path and nothing else. sigma is a noise level: 1 is
noise, 0 the image. Shapes: B images; C, H, W of the latent.
"""

from typing import Protocol

import torch


class Path(Protocol):
    """Noising, target and error of one kind of diffusion."""

    def add_noise(self, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """x_t at a noise level, or at one for each image [B, 1, 1, 1]."""
        ...

    def target(self, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """What a network of this path should predict, in fp32."""
        ...

    def error(self, prediction_BCHW: torch.Tensor, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """Mean over the latent's dimensions of (prediction - target)^2, in fp32; [B]."""
        ...


class RectifiedFlow:
    """x_t = (1 - sigma) x0 + sigma eps, and the network predicts v = eps - x0 (Liu et al. 2022; Esser et al. 2024)."""

    def add_noise(self, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """x_t on the straight line from image to noise."""
        return (1 - sigma) * x0_BCHW + sigma * noise_BCHW

    def target(self, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """eps - x0."""
        return noise_BCHW.float() - x0_BCHW.float()

    def error(self, prediction_BCHW: torch.Tensor, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """Mean of (v - (eps - x0))^2 over the latent's dimensions; [B]."""
        error = prediction_BCHW.float() - self.target(x0_BCHW, noise_BCHW)
        return error.square().flatten(1).mean(dim=1)


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance (Ho and Salimans 2022); 1 is the conditional prediction itself."""
    return unconditional + guidance * (conditional - unconditional)
