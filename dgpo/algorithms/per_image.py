"""What methods share that learn from images one by one: who is learned from in which optimiser step, and at what noise.

Shapes: K prompts, G images of each; B images of this rank in hand; C, H, W of the latent.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from dgpo.advantage import dead_groups
from dgpo.algorithms.algorithm import Algorithm
from dgpo.batch import Batch
from dgpo.models.attention import training_attention
from dgpo.models.model import Conditioning
from dgpo.noise import seeded_generator, seeded_noise
from dgpo.parallel import Ranks
from dgpo.policy import Purpose, Who


@dataclass(frozen=True)
class Share:
    """This rank's part of one optimiser step."""

    rows: torch.Tensor
    """Of the batch, int64."""
    images: int
    """How many images the step is made of, over all ranks."""


class Sums:
    """Quantities of an iteration, added up image by image, to be averaged over all ranks."""

    def __init__(self) -> None:
        self.images = 0
        self.totals: dict[str, torch.Tensor] = {}  # on the device, which is not asked before the end

    def add(self, images: int, **values_B: torch.Tensor) -> None:
        self.images += images
        for name, value_B in values_B.items():
            total = value_B.detach().double().sum()
            self.totals[name] = self.totals[name] + total if name in self.totals else total

    def averages(self, names: tuple[str, ...], ranks: Ranks) -> dict[str, float]:
        """0 for all of them where there was no image: nothing was learned."""
        none = torch.zeros((), dtype=torch.float64, device=ranks.device)
        mine = torch.stack([none + self.images, *(self.totals.get(name, none) for name in names)])
        images, *totals = ranks.sum(mine).tolist()
        return {name: total / max(1.0, images) for name, total in zip(names, totals, strict=True)}


class PerImage(Algorithm):
    """Learns from each image by itself; groups have done their part when advantages are made.

    Its settings have `updates`, the optimiser steps per iteration.
    """

    measured: tuple[str, ...] = ("loss",)
    """Names of what `learn_share` adds up, which become metrics."""

    def learn(self, batch: Batch, step: int, update: Callable[[], None]) -> dict[str, Any]:
        """An optimiser step for each share of the images, unless none of them teaches."""
        assert batch.scores_KG is not None, "learning begins when all images are scored"
        advantage_KG = self.standardise(batch)
        teaching_KG = self.teaching(batch.scores_KG, advantage_KG)
        sums, times = Sums(), self.choose_times(batch, step) if teaching_KG.any() else []
        self.begin(batch, teaching_KG, times, step)
        for share in self.deal(batch, teaching_KG, step):
            self.learn_share(batch, advantage_KG, share, times, step, sums)
            update()
        if teaching_KG.any():
            self.finish()
        return {**sums.averages(self.measured, self.ranks), "times": {"rollout": batch.times, "trained": times}}

    def begin(self, batch: Batch, teaching_KG: torch.Tensor, times: list[float], step: int) -> None:
        """What has to be known of the images that teach before the first optimiser step."""
        return

    @abstractmethod
    def choose_times(self, batch: Batch, step: int) -> list[float]:
        """The noise levels that an iteration trains at, in the order of the table; the same on all ranks."""

    @abstractmethod
    def learn_share(
        self,
        batch: Batch,
        advantage_KG: torch.Tensor,
        share: Share,
        times: list[float],
        step: int,
        sums: Sums,
    ) -> None:
        """Leave the gradient of the mean over a share's images and times."""

    def finish(self) -> None:
        """What follows the last optimiser step of an iteration."""
        return

    @staticmethod
    def teaching(scores_KG: torch.Tensor, advantage_KG: torch.Tensor) -> torch.Tensor:
        """Images that are learned from: scored ones of groups with variance; bool [K, G]."""
        return ~scores_KG.isnan() & ~dead_groups(scores_KG)[:, None]

    def deal(self, batch: Batch, teaching_KG: torch.Tensor, step: int) -> Iterator[Share]:
        """The images that teach, dealt to the optimiser steps of an iteration: by seed and iteration alone."""
        numbers = teaching_KG.flatten().nonzero().flatten().cpu()
        order = torch.randperm(len(numbers), generator=seeded_generator("deal", self.geometry.seed, step))
        for part in numbers[order].tensor_split(min(self.settings.updates, max(1, len(numbers)))):
            if len(part):
                mine = torch.isin(batch.image_B.cpu(), part) & batch.drawn_B.cpu()
                yield Share(mine.nonzero().flatten().to(batch.image_B.device), len(part))

    def parts(self, rows: torch.Tensor) -> Iterator[torch.Tensor]:
        """As many rows as fit a backward pass."""
        yield from rows.split(self.geometry.micro_batch) if len(rows) else ()

    def noise(self, batch: Batch, rows: torch.Tensor, *turn: int | str) -> torch.Tensor:
        """Fresh noise for each image, [B, C, H, W]: it depends on run, turn, prompt and image alone."""
        shape = tuple(batch.x0_BCHW.shape[1:])
        images = batch.image_B[rows].tolist()
        kinds = [
            seeded_noise(
                shape, "image time", self.geometry.seed, *turn, batch.prompts[image // batch.group_size].id, image
            )
            for image in images
        ]
        return torch.stack(kinds).to(batch.x0_BCHW)

    def velocity(
        self,
        who: Who,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Conditioning,
        *,
        guidance: float | None = None,
        purpose: Purpose,
    ) -> torch.Tensor:
        """As the policy gives it, by the attention that training uses; with gradient for `current` alone, if at all."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and who == "current"), training_attention(x_BCHW.device):
            return self.policy.velocity(who, x_BCHW, sigma_B, conditioning, guidance=guidance, purpose=purpose)

    def backward(self, loss_B: torch.Tensor, images_B: torch.Tensor, share: float, passes: int = 1) -> None:
        """Add the gradient of `share` times the sum; an image whose loss is no number is remembered by its number."""
        self.suspect(loss_B, images_B)
        with training_attention(loss_B.device):
            (loss_B.sum() * share).backward()
        self.policy.passes["backward"] += len(loss_B) * passes
