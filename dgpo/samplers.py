"""From noise to an image: one function per published solver, all with one signature.

A sampler asks `velocity(x_BCHW, sigma_B)` at each time of the schedule, and tells `on_step(number, sigma, x)` what it
asked about, so that a trajectory can be recorded. Shapes: B images; C, H, W of the latent.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch

from dgpo.schedule import Schedule
from dgpo.stochastic import Interval, StochasticStep

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


def sample_dpm2(
    velocity: Velocity, noise_BCHW: torch.Tensor, schedule: Schedule, on_step: OnStep = ignore_step
) -> torch.Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022) on Euler's own table, as DiffusionNFT draws; latents [B, C, H, W] in fp32.

    The first and the last step are of first order, as there is no step before, or no end to look towards; the others
    extrapolate the clean image x0 = x - sigma v along lambda = ln((1 - sigma) / sigma).
    """
    x_BCHW, sigmas = noise_BCHW.float(), schedule.solver.sigmas.double().tolist()
    before: torch.Tensor | None = None
    for number, time in enumerate(schedule.times):
        on_step(number, time, x_BCHW)
        v_BCHW = velocity(x_BCHW, _rows(schedule, number, x_BCHW)).float()
        x0_BCHW, at = x_BCHW - sigmas[number] * v_BCHW, sigmas[number : number + 2]
        ahead = x0_BCHW
        if before is not None and number > 1 and at[1] > 0:  # from sigma 1, where lambda has no value, nothing is known
            ahead = x0_BCHW + (x0_BCHW - before) * _ratio_of_steps(sigmas, number) / 2
        x_BCHW = at[1] / at[0] * x_BCHW + (1 - at[1] / at[0]) * ahead
        before = x0_BCHW
    return x_BCHW


def _ratio_of_steps(sigmas: Sequence[float], number: int) -> float:
    """How long a step is beside the one before it, along lambda."""
    last, now, following = (math.log((1 - sigma) / sigma) for sigma in sigmas[number - 1 : number + 2])
    return (following - now) / (now - last)


class StochasticSampler:
    """Euler's method with noise on some of its steps, which are recorded: the rollout of policy gradients.

    `draw(number)` gives the noise [B, C, H, W] of a step. Steps beside the stochastic ones are the ODE's.
    """

    def __init__(self, step: StochasticStep, steps: range, draw: Callable[[int], torch.Tensor], *, means: bool) -> None:
        self.step, self.steps, self.draw = step, steps, draw
        self.intervals: list[Interval] = []
        self.times: list[float] = []
        self.states: list[torch.Tensor] = []
        self.log_probabilities: list[torch.Tensor] = []
        self.means: list[torch.Tensor] | None = [] if means else None

    def __call__(
        self, velocity: Velocity, noise_BCHW: torch.Tensor, schedule: Schedule, on_step: OnStep = ignore_step
    ) -> torch.Tensor:
        """Latents [B, C, H, W] in fp32, in which everything is computed."""
        x_BCHW, sigmas = noise_BCHW.float(), schedule.solver.sigmas.tolist()
        for number, sigma in enumerate(schedule.times):
            on_step(number, sigma, x_BCHW)
            v_BCHW = velocity(x_BCHW, _rows(schedule, number, x_BCHW)).float()
            if number in self.steps:
                self.times.append(sigma)
                x_BCHW = self._take(number, Interval(sigmas[number], sigmas[number + 1], sigmas[1]), x_BCHW, v_BCHW)
            else:
                x_BCHW = x_BCHW + (sigmas[number + 1] - sigmas[number]) * v_BCHW
        return x_BCHW

    def _take(self, number: int, at: Interval, x_BCHW: torch.Tensor, v_BCHW: torch.Tensor) -> torch.Tensor:
        mean_BCHW = self.step.mean(x_BCHW, v_BCHW, at)
        next_BCHW = mean_BCHW + self.step.deviation(at) * self.draw(number).to(mean_BCHW)
        self.intervals.append(at)
        self.states += [next_BCHW] if self.states else [x_BCHW, next_BCHW]
        self.log_probabilities.append(self.step.log_probability(next_BCHW, mean_BCHW, at))
        if self.means is not None:
            self.means.append(mean_BCHW)
        return next_BCHW


SAMPLERS: dict[str, Sampler] = {"euler": sample_euler, "dpm++": sample_dpmpp_2m, "dpm2": sample_dpm2}


def _rows(schedule: Schedule, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
    """The time that the network is asked at, as sigma, for each image."""
    solver = schedule.solver
    return (solver.timesteps[number] / solver.config.num_train_timesteps).expand(len(x_BCHW)).to(x_BCHW)
