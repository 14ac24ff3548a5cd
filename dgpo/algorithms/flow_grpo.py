"""Flow-GRPO's update (Liu et al. 2025, arXiv 2505.05470): a policy gradient on the stochastic steps of the rollout.

Each recorded step of each image is asked again by the policy as it is now; the ratio of likelihoods is clipped, and the
divergence from the reference is that of the two steps' means. Variants are settings: Flow-CPS (`rollout.noise=cps`),
Flow-GRPO-Fast and MixGRPO (`rollout.window`), GRPO-Guard (`guard`). Shapes as in `per_image`; S recorded steps.
"""

from typing import ClassVar, Literal

import torch

from dgpo.algorithms.algorithm import Needs, Planned
from dgpo.algorithms.clipped_ratio import clipped_objective, guarded_log_ratio, is_clipped
from dgpo.algorithms.per_image import PerImage, Share, Sums
from dgpo.batch import Batch, Trajectory
from dgpo.sections import Count, NonNegative, Positive, Section
from dgpo.stochastic import Interval, StochasticStep

Guard = Literal["off", "batch", "image"]


class Settings(Section):
    clip: Positive = 1e-4
    """On the ratio of likelihoods, whose mean over dimensions stays very near 1."""
    kl: NonNegative = 0.04
    """Weight of mean((mean - mean_reference)^2) / (2 u^2), u the step's deviation without its length."""
    updates: Count = 2
    """Optimiser steps per iteration, each of its own share of the images and of all their steps."""
    guard: Guard = "off"
    """GRPO-Guard's ratio, centred and of one size at every step: its mean shift taken over each image (the paper's), or
    over all images of a backward pass at once (`batch`, the released code's)."""


class FlowGRPO(PerImage):
    """Images whose advantage is exactly 0 leave the update."""

    summary = "Flow-GRPO (Liu et al. 2025, arXiv 2505.05470): a clipped policy gradient on SDE samples"
    Settings = Settings
    shown: ClassVar = {"kl": ".4f"}
    measured = ("loss", "kl", "clipped", "ratio")

    @classmethod
    def needs(cls, settings: Settings) -> Needs:
        return Needs(sampler="sde", trajectory=True, means=settings.guard != "off", errors=False)

    @classmethod
    def passes(cls, settings: Settings, iteration: Planned) -> dict[str, float]:
        """Guidance is learned with as it was drawn with, at twice the passes."""
        steps = iteration.stochastic * iteration.live_share * iteration.cost(iteration.guidance)
        return {"reference": steps if settings.kl else 0, "current": steps, "backward": steps}

    @staticmethod
    def teaching(scores_KG: torch.Tensor, advantage_KG: torch.Tensor) -> torch.Tensor:
        return advantage_KG.ne(0)

    def choose_times(self, batch: Batch, step: int) -> list[float]:
        """Those of the stochastic steps."""
        return [] if batch.trajectory is None else list(batch.trajectory.times)

    def learn_share(
        self, batch: Batch, advantage_KG: torch.Tensor, share: Share, times: list[float], step: int, sums: Sums
    ) -> None:
        if batch.trajectory is None:
            return  # a rank without images
        divisor = share.images * len(batch.trajectory.intervals)
        for rows in self.parts(share.rows):
            for number in range(len(batch.trajectory.intervals)):
                self._learn(batch, batch.trajectory, advantage_KG, rows, number, divisor, sums)

    def _learn(
        self,
        batch: Batch,
        drawn: Trajectory,
        advantage_KG: torch.Tensor,
        rows: torch.Tensor,
        number: int,
        divisor: int,
        sums: Sums,
    ) -> None:
        """One step of some images."""
        settings, step, at, image_B = self.settings, drawn.step, drawn.intervals[number], batch.image_B[rows]
        x, following = drawn.states_SBCHW[number][rows], drawn.states_SBCHW[number + 1][rows]
        sigma_B = torch.full((len(rows),), drawn.times[number], device=x.device)
        asked, guidance = (x, sigma_B, batch.conditioning.take(batch.group_B[rows])), drawn.guidance
        kl_B = torch.zeros(len(rows), device=x.device)
        reference = None
        if settings.kl:
            velocity = self.velocity("reference", *asked, guidance=guidance, purpose="reference")
            reference = step.mean(x, velocity, at)
        velocity = self.velocity("current", *asked, guidance=guidance, purpose="current")
        mean = step.mean(x, velocity, at)
        log_ratio_B = step.log_probability(following, mean, at) - drawn.log_probability_SB[number][rows]
        if reference is not None:
            kl_B = mean_divergence(mean, reference, step, at)
        scale = 1.0
        if settings.guard != "off":
            assert drawn.means_SBCHW is not None
            deviation = step.deviation(at)
            log_ratio_B = guarded_log_ratio(
                log_ratio_B, mean, drawn.means_SBCHW[number][rows], deviation, settings.guard
            )
            scale = 1 / (at.sigma - at.sigma_next)
        advantage_B = advantage_KG.flatten()[image_B.cpu()].to(log_ratio_B)
        ratio_B = log_ratio_B.exp()
        objective_B = clipped_objective(ratio_B, advantage_B, settings.clip) * scale
        self.backward(objective_B + settings.kl * kl_B, image_B, 1 / divisor, self.policy.model.passes(guidance))
        clipped_B = is_clipped(ratio_B.detach(), advantage_B, settings.clip)
        sums.add(len(rows), loss=objective_B, kl=kl_B, clipped=clipped_B, ratio=ratio_B)


def mean_divergence(
    mean_BCHW: torch.Tensor, reference_BCHW: torch.Tensor, step: StochasticStep, at: Interval
) -> torch.Tensor:
    """mean((mean - mean_reference)^2) / (2 u^2), with gradient; [B].

    The released code's u leaves the step's length out; the paper's divergence of two Gaussians has it, and sums over
    dimensions.
    """
    return (mean_BCHW - reference_BCHW).square().flatten(1).mean(dim=1) / (2 * step.kl_deviation(at) ** 2)
