"""DiffusionNFT's update (Zheng et al. 2025, arXiv 2509.16117): reinforcement on the forward process.

Every image is noised anew at its own choice of the rollout's times; the policy learns to move towards good images and,
by the mirror image of its step about the old policy, away from bad ones. Shapes as in `per_image`.
"""

from typing import ClassVar

import torch

from dgpo.algorithms.algorithm import Needs, Planned
from dgpo.algorithms.matching import contrast, drift, optimality
from dgpo.algorithms.per_image import PerImage, Share, Sums
from dgpo.batch import Batch
from dgpo.noise import seeded_generator
from dgpo.sections import Count, Decay, NonNegative, Positive, Section, Whole
from rewards.errors import UsageError


class Settings(Section):
    beta: Positive = 1.0
    """How far the two implied policies lie from the old one."""
    kl: NonNegative = 1e-4
    """Weight of mean((v - v_reference)^2)."""
    limit: Positive = 5.0
    """Advantages of this size and more are all good or all bad; the objective is multiplied by it, as released."""
    times: Count = 9
    """Of the rollout's times those that an image trains at, drawn for each image without replacement."""
    updates: Count = 1
    """Optimiser steps per iteration, each of its own share of the images."""
    old_decay: Decay = 0.5
    """Largest decay of the old policy, which draws and moves once per iteration."""
    old_growth: NonNegative = 0.001
    """The old policy's decay is this times the optimiser steps done (after `old_flat`), up to `old_decay`."""
    old_flat: Whole = 0
    """Optimiser steps during which the old policy follows at once."""


class NFT(PerImage):
    """Needs no likelihood and no trajectory; the old policy draws."""

    summary = "DiffusionNFT (Zheng et al. 2025, arXiv 2509.16117): towards good images and away from bad ones"
    Settings = Settings
    shown: ClassVar = {"kl": ".4f"}
    measured = ("loss", "kl")

    @classmethod
    def needs(cls, settings: Settings) -> Needs:
        return Needs(snapshots=frozenset({"old"}), sampler="ode", draws="old")

    @classmethod
    def passes(cls, settings: Settings, iteration: Planned) -> dict[str, float]:
        times = settings.times * iteration.live_share
        return {"old": times, "reference": times if settings.kl else 0, "current": times, "backward": times}

    @classmethod
    def check_times(cls, settings: Settings, times: list[float]) -> None:
        if len(times) < settings.times:
            raise UsageError(
                f"nft.times is {settings.times}, but the rollout visits {len(times)} times. Lower it, or raise "
                "sampling.steps."
            )

    def choose_times(self, batch: Batch, step: int) -> list[float]:
        """All of the rollout's; each image leaves its own out."""
        return batch.times

    def learn_share(
        self, batch: Batch, advantage_KG: torch.Tensor, share: Share, times: list[float], step: int, sums: Sums
    ) -> None:
        settings = self.settings
        for rows in self.parts(share.rows):
            sigma_TB = self._own_times(batch, rows, times, step)
            conditioning = batch.conditioning.take(batch.group_B[rows])
            good_B = optimality(advantage_KG.flatten()[batch.image_B[rows].cpu()], settings.limit)
            for place, sigma_B in enumerate(sigma_TB):
                x0 = batch.x0_BCHW[rows]
                x = self.path.add_noise(x0, self.noise(batch, rows, step, place), sigma_B.view(-1, 1, 1, 1))
                asked = (x, sigma_B, conditioning)
                old = self.velocity("old", *asked, purpose="old")
                reference = self.velocity("reference", *asked, purpose="reference") if settings.kl else None
                velocity = self.velocity("current", *asked, purpose="current")
                good = good_B.to(x.device)
                loss_B = settings.limit * contrast(velocity, old, x, x0, sigma_B, good, settings.beta)
                kl_B = torch.zeros_like(loss_B) if reference is None else drift(velocity, reference)
                self.backward(loss_B + settings.kl * kl_B, batch.image_B[rows], 1 / (share.images * settings.times))
                sums.add(len(rows), loss=loss_B, kl=kl_B)

    def updated(self, updates: int) -> None:
        self._done = updates

    def finish(self) -> None:
        """The old policy follows."""
        self.policy.follow("old", old_decay(self.settings, self._done))

    def _own_times(self, batch: Batch, rows: torch.Tensor, times: list[float], step: int) -> torch.Tensor:
        """Each image's own permutation of the table, cut to the number of times; [T, B]."""
        table, count = torch.tensor(times, dtype=torch.float32), self.settings.times
        orders = [
            torch.randperm(len(times), generator=seeded_generator("own times", self.geometry.seed, step, image))[:count]
            for image in batch.image_B[rows].tolist()
        ]
        return table[torch.stack(orders, dim=1)].to(batch.x0_BCHW.device)


def old_decay(settings: Settings, updates: int) -> float:
    """The old policy's decay after so many optimiser steps of the run."""
    return min(settings.old_decay, settings.old_growth * max(0, updates - settings.old_flat))
