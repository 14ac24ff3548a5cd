"""From noise to an image: one function per published solver, all with one signature.

A sampler asks `velocity(x_BCHW, sigma_B)` at each time of the schedule, and tells `on_step(number, sigma, x)` what it
asked about, so that a trajectory can be recorded. Shapes: B images; C, H, W of the latent.
"""

import copy
from collections.abc import Callable

import torch

from dgpo.schedule import Schedule

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OnStep = Callable[[int, float, torch.Tensor], None]
Sampler = Callable[[Velocity, torch.Tensor, Schedule, OnStep], torch.Tensor]


def ignore_step(number: int, sigma: float, x_BCHW: torch.Tensor) -> None:
    """For who wants the end alone."""


def sample_euler(
    velocity: Velocity, noise_BCHW: torch.Tensor, schedule: Schedule, on_step: OnStep = ignore_step
) -> torch.Tensor:
    """Euler's method on the probability-flow ODE of a rectified flow; latents [B, C, H, W] in fp32.

    x <- x + (sigma_next - sigma) v(x, sigma): the straight line along the velocity.
    """
    x_BCHW, sigmas = noise_BCHW.float(), schedule.solver.sigmas.to(noise_BCHW.device)
    for number, sigma in enumerate(schedule.times):
        on_step(number, sigma, x_BCHW)
        x_BCHW = (
            x_BCHW + (sigmas[number + 1] - sigmas[number]) * velocity(x_BCHW, _rows(schedule, number, x_BCHW)).float()
        )
    return x_BCHW


def sample_dpmpp_2m(
    velocity: Velocity, noise_BCHW: torch.Tensor, schedule: Schedule, on_step: OnStep = ignore_step
) -> torch.Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, Algorithm 2) on flow sigmas; latents [B, C, H, W] in fp32.

    Second order: each step also uses the clean image predicted at the one before. The formulas are diffusers' own.
    """
    solver = copy.deepcopy(schedule.solver)  # it counts its steps
    x_BCHW = noise_BCHW.float()
    for number, (time, sigma) in enumerate(zip(solver.timesteps, schedule.times, strict=True)):
        on_step(number, sigma, x_BCHW)
        velocity_BCHW = velocity(x_BCHW, _rows(schedule, number, x_BCHW)).float()
        x_BCHW = solver.step(velocity_BCHW, time, x_BCHW, return_dict=False)[0]
    return x_BCHW


SAMPLERS: dict[str, Sampler] = {"euler": sample_euler, "dpm++": sample_dpmpp_2m}


def _rows(schedule: Schedule, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
    """The time that the network is asked at, as sigma, for each image."""
    solver = schedule.solver
    return (solver.timesteps[number] / solver.config.num_train_timesteps).expand(len(x_BCHW)).to(x_BCHW)
