"""SA-Solver on flow sigmas (Xue et al. 2023, arXiv 2309.05019), with which Advantage Weighted Matching draws.

A predictor and a corrector of second order, one evaluation of the network a step, and noise on some of the steps: more
of it than an ODE has, and no likelihood, so that an algorithm can learn from the images alone. Shapes as in `samplers`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from dgpo.samplers import OnStep, Velocity, ignore_step
from dgpo.schedule import Schedule

NOISE_LEVEL = 0.4
"""As the released presets have it."""
NOISY = (0.3, 0.9)
"""Noise levels between which a step has to end for noise to be added (the released presets of AWM)."""
BEGINNING = 0.999
"""In place of a table's first entry 1, at which lambda has no value."""


@dataclass(frozen=True)
class Leg:
    """The way from sigma to sigma_next < sigma, both inside (0, 1), with noise tau.

    In lambda = ln((1 - sigma) / sigma), with h its growth and k = 1 + tau^2, a clean image that moves on a straight
    line is integrated by e^(-tau^2 h) sigma_next / sigma of x, (1 - sigma_next) (1 - e^(-k h)) of the image, and, as
    the released code has it, (1 - sigma_next) k h^2 / 2 of its slope.
    """

    sigma: float
    sigma_next: float
    tau: float

    @property
    def growth(self) -> float:
        return _lambda(self.sigma_next) - _lambda(self.sigma)

    def start(self, x_BCHW: torch.Tensor, x0_BCHW: torch.Tensor, noise_BCHW: torch.Tensor | None) -> torch.Tensor:
        """Where the way ends if the clean image stays what it is."""
        kept = math.exp(-(self.tau**2) * self.growth) * self.sigma_next / self.sigma
        gained = (1 - self.sigma_next) * -math.expm1(-(1 + self.tau**2) * self.growth)
        end_BCHW = kept * x_BCHW + gained * x0_BCHW
        if noise_BCHW is None:
            return end_BCHW
        return end_BCHW + self.sigma_next * math.sqrt(-math.expm1(-2 * self.tau**2 * self.growth)) * noise_BCHW

    def turn(self, change_BCHW: torch.Tensor, growth: float) -> torch.Tensor:
        """What is added for a clean image that changes by so much over so much growth of lambda."""
        return (1 - self.sigma_next) * (1 + self.tau**2) * self.growth**2 / 2 * change_BCHW / growth


class SASampler:
    """One drawing; `draw(number)` gives the noise [B, C, H, W] of a step.

    Args:
        noise_level: tau of the steps that end between the noise levels `NOISY`; 0 is an ODE.
    """

    def __init__(self, noise_level: float, draw: Callable[[int], torch.Tensor]) -> None:
        self.noise_level, self.draw = noise_level, draw

    def __call__(
        self, velocity: Velocity, noise_BCHW: torch.Tensor, schedule: Schedule, on_step: OnStep = ignore_step
    ) -> torch.Tensor:
        """Latents [B, C, H, W] in fp32; `on_step` is told of states after their correction."""
        sigmas = inner_table(schedule.solver.sigmas.double().tolist())
        legs = [Leg(*ends, self._tau(ends[1])) for ends in pairwise(sigmas)]
        x_BCHW = start_BCHW = before_BCHW = noise_BCHW.float()
        for number, sigma in enumerate(sigmas):
            sigma_B = torch.full((len(x_BCHW),), sigma, dtype=x_BCHW.dtype, device=x_BCHW.device)
            x0_BCHW = x_BCHW - sigma * velocity(x_BCHW, sigma_B).float()
            if number > 1:  # corrected by what is now known of the end; the first arrival is not
                x_BCHW = start_BCHW + legs[number - 1].turn(x0_BCHW - before_BCHW, legs[number - 1].growth)
            on_step(number, sigma, x_BCHW)
            if number == len(legs):
                return x0_BCHW  # what is left of the way leads to the clean image itself
            leg = legs[number]
            x_BCHW = start_BCHW = leg.start(x_BCHW, x0_BCHW, self.draw(number).to(x_BCHW) if leg.tau else None)
            if number:
                x_BCHW = start_BCHW + leg.turn(x0_BCHW - before_BCHW, legs[number - 1].growth)
            before_BCHW = x0_BCHW
        raise AssertionError("a table has at least one entry")

    def _tau(self, sigma_next: float) -> float:
        return self.noise_level if NOISY[0] <= sigma_next <= NOISY[1] else 0.0


def inner_table(sigmas: Sequence[float]) -> list[float]:
    """A table that ends in 0, as the released code of AWM changes it, without that 0.

    The first entry is at most 0.999, and the last but one half of the one before it.
    """
    return [min(sigmas[0], BEGINNING), *sigmas[1:-2], sigmas[-3] / 2] if len(sigmas) > 2 else [BEGINNING]


def _lambda(sigma: float) -> float:
    return math.log((1 - sigma) / sigma)
