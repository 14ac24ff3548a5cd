"""Advantage Weighted Matching (Xue et al. 2025, arXiv 2509.25050): the denoising loss itself, weighted by advantages.

The likelihood of an image is its denoising error at a few times, one of each part of the rollout's table, the same for
the whole batch. Shapes as in `per_image`; T trained times.
"""

import math
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch

from dgpo.algorithms.algorithm import Needs, Planned
from dgpo.algorithms.clipped_ratio import clipped_objective, is_clipped
from dgpo.algorithms.matching import Weighting, drift, elbo_scale, likelihood
from dgpo.algorithms.per_image import PerImage, Share, Sums
from dgpo.batch import Batch
from dgpo.noise import seeded_generator
from dgpo.sections import Count, Decay, NonNegative, Positive, Section
from rewards.errors import UsageError

Strata = Literal["all", "without_first", "with_first"]


class Settings(Section):
    weighting: Weighting = "ghuber"
    """How an error becomes a log-likelihood: its power (`ghuber`), its root (`huber`), or itself, with or without the
    noise level."""
    power: Positive = 0.25
    """Of the error in `ghuber`."""
    clip: Positive = 1.0
    """On the ratio to the policy before the iteration's first optimiser step, which alone has it at 1."""
    ratio: Literal["time", "image"] = "time"
    """One ratio for each time, as the released presets; or one for an image, of the mean over its times."""
    base: NonNegative = 1e-3
    """Weight of mean((v - v_reference)^2)."""
    fast: NonNegative = 1.0
    """Weight of mean((v - v_fast)^2), the fast average of the trained weights."""
    anchors: Literal["uniform", "elbo"] = "uniform"
    """How both distances count at a noise level: alike, or divided by 2 u^2, u the rate of the SDE's noise (`elbo`)."""
    fast_decay: Decay = 0.3
    """Largest decay of the fast average, which moves once per iteration."""
    fast_growth: NonNegative = 0.001
    """The fast average's decay is this times the optimiser steps done, up to `fast_decay`."""
    times: Count = 6
    """Trained times per iteration, one of each part of the table."""
    strata: Strata = "without_first"
    """Which of the rollout's times are cut into parts: all; all but pure noise; or these, with pure noise always."""
    share: Positive = 0.9
    """Which part of the table, from noise on, is cut."""
    updates: Count = 1
    """Optimiser steps per iteration, each of its own share of the images; more than one costs the old likelihoods."""
    limit: Positive = 5.0
    """Advantages are divided by this."""


class AWM(PerImage):
    """On policy with one optimiser step per iteration."""

    summary = "Advantage Weighted Matching (Xue et al. 2025, arXiv 2509.25050): denoising errors as likelihoods"
    Settings = Settings
    shown: ClassVar = {"kl": ".4f"}
    measured = ("loss", "kl", "drift", "clipped")

    @classmethod
    def needs(cls, settings: Settings) -> Needs:
        return Needs(snapshots=frozenset({"fast"} if settings.fast else ()))

    @classmethod
    def passes(cls, settings: Settings, iteration: Planned) -> dict[str, float]:
        """`old` are the fast weights, and the likelihoods before the first of several optimiser steps."""
        times = settings.times * iteration.live_share
        again = (1 + (settings.ratio == "image")) * (settings.updates > 1)
        return {
            "old": times * ((settings.fast > 0) + again),
            "reference": times if settings.base else 0,
            "current": times,
            "backward": times,
        }

    @classmethod
    def check_times(cls, settings: Settings, times: list[float]) -> None:
        bounds = list(strata_of(settings, len(times)))
        if any(high <= low for low, high in bounds):
            raise UsageError(
                f"awm.times is {settings.times}, and the rollout's {len(times)} times cannot be cut into so many parts "
                f"({settings.strata}, awm.share {settings.share:g}). Lower it, or raise sampling.steps."
            )

    def choose_times(self, batch: Batch, step: int) -> list[float]:
        generator = seeded_generator("strata", self.geometry.seed, step)
        bounds = list(strata_of(self.settings, len(batch.times)))
        uniform = torch.rand(len(bounds), generator=generator).tolist()
        return [batch.times[choose(low, high, u)] for (low, high), u in zip(bounds, uniform, strict=True)]

    def begin(self, batch: Batch, teaching_KG: torch.Tensor, times: list[float], step: int) -> None:
        """With several optimiser steps, the likelihoods under the weights before the first of them."""
        self._old: dict[tuple[int, int], float] = {}
        if self.settings.updates == 1:
            return
        teaching = teaching_KG.flatten().to(batch.image_B.device)[batch.image_B]
        for rows in self.parts((teaching & batch.drawn_B).nonzero().flatten()):
            for number, sigma in enumerate(times):
                log_p = self._log_p_now(batch, rows, (step, number), sigma)
                self._old |= {
                    (image, number): value
                    for image, value in zip(batch.image_B[rows].tolist(), log_p.tolist(), strict=True)
                }

    def learn_share(
        self, batch: Batch, advantage_KG: torch.Tensor, share: Share, times: list[float], step: int, sums: Sums
    ) -> None:
        for rows in self.parts(share.rows):
            weight_B = self._log_ratio_of_images(batch, rows, times, step)
            for number, sigma in enumerate(times):
                self._learn(batch, advantage_KG, rows, (step, number), sigma, share.images * len(times), weight_B, sums)

    def _learn(
        self,
        batch: Batch,
        advantage_KG: torch.Tensor,
        rows: torch.Tensor,
        turn: tuple[int, int],
        sigma: float,
        divisor: int,
        weight_B: torch.Tensor | None,
        sums: Sums,
    ) -> None:
        settings, image_B = self.settings, batch.image_B[rows]
        asked = self._noised(batch, rows, turn, sigma)
        reference = self.velocity("reference", *asked[1:], purpose="reference") if settings.base else None
        fast = self.velocity("fast", *asked[1:], purpose="old") if settings.fast else None
        velocity = self.velocity("current", *asked[1:], purpose="current")
        log_p_B = self._log_p(velocity, batch, rows, asked[0], sigma)
        advantage_B = (advantage_KG.flatten()[image_B.cpu()] / settings.limit).to(log_p_B)
        old_B = self._old_log_p(image_B, turn[1], log_p_B)
        if weight_B is None:
            ratio_B = (log_p_B - old_B).exp()
            objective_B = clipped_objective(ratio_B, advantage_B, settings.clip)
        else:  # the ratio is that of the whole image, and so is the clip; its gradient passes through this time's part
            ratio_B = weight_B.exp() * (log_p_B - log_p_B.detach() + 1)
            objective_B = clipped_objective(ratio_B, advantage_B, settings.clip)
        scale = elbo_scale(sigma) if settings.anchors == "elbo" else 1.0
        kl_B = torch.zeros_like(log_p_B) if reference is None else drift(velocity, reference).to(log_p_B) / scale
        drift_B = torch.zeros_like(log_p_B) if fast is None else drift(velocity, fast).to(log_p_B) / scale
        self.backward(objective_B + settings.base * kl_B + settings.fast * drift_B, image_B, 1 / divisor)
        clipped_B = is_clipped(ratio_B.detach(), advantage_B, settings.clip)
        sums.add(len(rows), loss=objective_B, kl=kl_B, drift=drift_B, clipped=clipped_B)

    def _noised(self, batch: Batch, rows: torch.Tensor, turn: tuple[int, int], sigma: float) -> Any:
        """Noise, x, sigma and conditioning of some images at one time."""
        noise, x0 = self.noise(batch, rows, *turn), batch.x0_BCHW[rows]
        sigma_B = torch.full((len(rows),), sigma, device=x0.device)
        return noise, self.path.add_noise(x0, noise, sigma), sigma_B, batch.conditioning.take(batch.group_B[rows])

    def _log_p(
        self, velocity: torch.Tensor, batch: Batch, rows: torch.Tensor, noise: torch.Tensor, sigma: float
    ) -> torch.Tensor:
        """In fp64: likelihoods are told apart by less than fp32 holds of an error's fourth root."""
        error_B = self.path.error(velocity, batch.x0_BCHW[rows], noise).double()
        return likelihood(error_B, torch.full_like(error_B, sigma), self.settings.weighting, self.settings.power)

    @torch.no_grad()
    def _log_p_now(self, batch: Batch, rows: torch.Tensor, turn: tuple[int, int], sigma: float) -> torch.Tensor:
        """The current policy's without gradient; its pass is counted as the old one's."""
        noise, *asked = self._noised(batch, rows, turn, sigma)
        return self._log_p(self.velocity("current", *asked, purpose="old"), batch, rows, noise, sigma)

    def _old_log_p(self, image_B: torch.Tensor, number: int, log_p_B: torch.Tensor) -> torch.Tensor:
        """On policy it is the same number without gradient, so that the ratio is exactly 1."""
        if not self._old:
            return log_p_B.detach()
        return torch.tensor([self._old[image, number] for image in image_B.tolist()]).to(log_p_B)

    def _log_ratio_of_images(
        self, batch: Batch, rows: torch.Tensor, times: list[float], step: int
    ) -> torch.Tensor | None:
        """The mean over the times of log p - log p_old, where the ratio is an image's; known before any gradient."""
        if self.settings.ratio == "time":
            return None
        total = torch.zeros(len(rows), dtype=torch.float64, device=batch.x0_BCHW.device)
        if self._old:
            for number, sigma in enumerate(times):
                log_p = self._log_p_now(batch, rows, (step, number), sigma)
                total += log_p - self._old_log_p(batch.image_B[rows], number, log_p)
        return total / len(times)

    def updated(self, updates: int) -> None:
        self._done = updates

    def finish(self) -> None:
        """The fast average follows."""
        if self.settings.fast:
            self.policy.follow("fast", fast_decay(self.settings, self._done))


def fast_decay(settings: Settings, updates: int) -> float:
    """The fast average's decay after so many optimiser steps of the run."""
    return min(settings.fast_decay, settings.fast_growth * updates)


def strata_of(settings: Settings, steps: int) -> list[tuple[int, int]]:
    """The parts of a table of so many times, as indices from and to; one is drawn of each."""
    count, last = settings.times, int(steps * settings.share)
    if settings.strata == "with_first":
        return [(0, 1), *_cut(1, last, count - 1)]
    return _cut(0 if settings.strata == "all" else 1, last, count)


def choose(low: int, high: int, uniform: float) -> int:
    """An index of low .. high - 1."""
    return low + math.floor(uniform * (high - low))


def _cut(first: int, last: int, count: int) -> list[tuple[int, int]]:
    bounds = torch.linspace(first, last, count + 1).floor().int().tolist()
    return list(pairwise(bounds))
