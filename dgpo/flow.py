"""Rectified flow: noising, velocities, and the way from noise to image.

sigma runs from 1 (noise) to 0 (image); x_t = (1 - sigma) x0 + sigma eps; the network predicts v = eps - x0
(Liu et al. 2022; Esser et al. 2024). Shapes: B images; C, H, W of the latent.
"""

# Annotations in diffusers and transformers are narrower than what their functions take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOptionalOperand=false

import copy
import hashlib
from collections.abc import Callable

import torch

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def add_noise(x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """x_t on the straight line from image to noise."""
    return (1 - sigma) * x0_BCHW + sigma * noise_BCHW


def velocity_error(velocity_BCHW: torch.Tensor, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor) -> torch.Tensor:
    """Mean over the latent's dimensions of (v - (eps - x0))^2, in fp32; [B]."""
    error = velocity_BCHW.float() - (noise_BCHW.float() - x0_BCHW.float())
    return error.square().flatten(1).mean(dim=1)


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance (Ho and Salimans 2022); 1 is the conditional prediction itself."""
    return unconditional + guidance * (conditional - unconditional)


def integrate(velocity: Velocity, noise_BCHW: torch.Tensor, scheduler) -> torch.Tensor:
    """Follow the probability-flow ODE from noise to image; latents [B, C, H, W] in fp32."""
    scheduler = copy.deepcopy(scheduler)  # it counts its steps
    x_BCHW = noise_BCHW.float()
    for time in scheduler.timesteps:
        sigma_B = (time / scheduler.config.num_train_timesteps).expand(len(x_BCHW)).to(x_BCHW)
        x_BCHW = scheduler.step(velocity(x_BCHW, sigma_B).float(), time, x_BCHW, return_dict=False)[0]
    return x_BCHW


def seeded_noise(shape: tuple[int, ...], *identity: str | int) -> torch.Tensor:
    """Gaussian noise that depends on `identity` alone: not on batch, rank or device."""
    return torch.randn(shape, generator=seeded_generator(*identity))


def seeded_generator(*identity: str | int) -> torch.Generator:
    """A CPU generator of its own for each identity (a prompt's id and a seed, say), seeded with a hash of it."""
    digest = hashlib.sha256("\x1f".join(map(str, identity)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def generator_of(number: int) -> torch.Generator:
    """A CPU generator seeded with a number that was calculated; one beyond 64 bits comes round from the other end."""
    return torch.Generator().manual_seed(number if -(2**63) <= number < 2**64 else number % 2**64)
