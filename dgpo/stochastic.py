"""Stochastic steps from noise to image, and the likelihood of what they drew.

A step goes from sigma to sigma_next by a Gaussian whose mean follows from the velocity and whose deviation does not;
so a policy gradient has a density to work with. Shapes: B images; C, H, W of the latent. Everything is computed in the
precision of what is given, fp32 in a rollout, fp64 in the tests that hold it against recorded numbers.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Interval:
    """One step of a table: from `sigma` to `sigma_next`, which is smaller; `second` is the table's second entry."""

    sigma: float
    sigma_next: float
    second: float


class StochasticStep(Protocol):
    """One kind of step; `noise_level` is how much noise it adds, in the kind's own measure."""

    @property
    def noise_level(self) -> float: ...

    def deviation(self, at: Interval) -> float:
        """The standard deviation of what the step adds."""
        ...

    def mean(self, x_BCHW: torch.Tensor, v_BCHW: torch.Tensor, at: Interval) -> torch.Tensor:
        """Where the step goes without noise, from x by the velocity v."""
        ...

    def log_probability(self, next_BCHW: torch.Tensor, mean_BCHW: torch.Tensor, at: Interval) -> torch.Tensor:
        """Log density of `next_BCHW` as a draw of this step, in the kind's own form; mean over dimensions, [B]."""
        ...

    def kl_deviation(self, at: Interval) -> float:
        """u of the divergence mean((mean - mean_reference)^2) / (2 u^2) that the released code takes."""
        ...


@dataclass(frozen=True)
class SDE:
    """Flow-GRPO's step (Liu et al. 2025, arXiv 2505.05470, Eq. 9): the reverse SDE of a rectified flow, Euler-Maruyama.

    mean = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt and deviation s sqrt(-dt), with
    dt = sigma_next - sigma and s = noise_level sqrt(sigma / (1 - sigma)). At sigma = 1, where s has no value, the
    denominator alone takes the table's second entry, so that the first step's deviation is the noise level itself; on
    a table that starts a little below 1 the formula explodes.
    """

    noise_level: float = 0.7

    def rate(self, at: Interval) -> float:
        """s."""
        below = at.second if at.sigma == 1 else at.sigma
        return self.noise_level * math.sqrt(at.sigma / (1 - below))

    def deviation(self, at: Interval) -> float:
        return self.rate(at) * math.sqrt(at.sigma - at.sigma_next)

    def mean(self, x_BCHW: torch.Tensor, v_BCHW: torch.Tensor, at: Interval) -> torch.Tensor:
        dt, half = at.sigma_next - at.sigma, self.rate(at) ** 2 / (2 * at.sigma)
        return x_BCHW * (1 + half * dt) + v_BCHW * ((1 + half * (1 - at.sigma)) * dt)

    def log_probability(self, next_BCHW: torch.Tensor, mean_BCHW: torch.Tensor, at: Interval) -> torch.Tensor:
        """The Gaussian's own. The paper sums over dimensions; the released code, and so this, takes the mean."""
        deviation = self.deviation(at)
        square_B = (next_BCHW - mean_BCHW).square().flatten(1).mean(dim=1)
        return -square_B / (2 * deviation**2) - math.log(deviation) - math.log(2 * math.pi) / 2

    def kl_deviation(self, at: Interval) -> float:
        """s, without the step's length; the paper's variance has it."""
        return self.rate(at)


@dataclass(frozen=True)
class CPS:
    """Flow-CPS (Wang et al. 2025, arXiv 2509.05952): as much noise is added as keeps the next noise level.

    With x0 = x - sigma v and x1 = x + (1 - sigma) v: deviation = sigma_next sin(noise_level pi / 2) and
    mean = (1 - sigma_next) x0 + sqrt(sigma_next^2 - deviation^2) x1.
    """

    noise_level: float = 0.8

    def deviation(self, at: Interval) -> float:
        return at.sigma_next * math.sin(self.noise_level * math.pi / 2)

    def mean(self, x_BCHW: torch.Tensor, v_BCHW: torch.Tensor, at: Interval) -> torch.Tensor:
        kept = math.sqrt(max(0.0, at.sigma_next**2 - self.deviation(at) ** 2))
        return (1 - at.sigma_next) * (x_BCHW - at.sigma * v_BCHW) + kept * (x_BCHW + (1 - at.sigma) * v_BCHW)

    def log_probability(self, next_BCHW: torch.Tensor, mean_BCHW: torch.Tensor, at: Interval) -> torch.Tensor:
        """-mean of (next - mean)^2, as its authors have it: without the variance and the constants."""
        return -(next_BCHW - mean_BCHW).square().flatten(1).mean(dim=1)

    def kl_deviation(self, at: Interval) -> float:
        return self.deviation(at)


STEPS: dict[str, type[SDE] | type[CPS]] = {"sde": SDE, "cps": CPS}
