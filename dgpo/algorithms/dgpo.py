"""DGPO's update (Luo et al. 2025, Algorithm 1): one rollout's groups, M times, one gradient.

Shapes: K prompts, G images of each; B images of this rank in hand; C, H, W of the latent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from dgpo.algorithms.algorithm import Algorithm, Needs, Planned
from dgpo.algorithms.diffusion_dpo import mark_pairs
from dgpo.algorithms.group_preference import group_margins, image_weights, preference_loss, reported_loss, unclipped
from dgpo.batch import Batch
from dgpo.models.attention import training_attention
from dgpo.models.model import Conditioning
from dgpo.noise import generator_of, seeded_noise
from dgpo.parallel import Ranks
from dgpo.sections import Count, Decay, NonNegative, Positive, Section
from rewards.errors import UsageError


class Settings(Section):
    beta: Positive = 100.0
    """How sharply a group saturates (beta / G multiplies the margin)."""
    kl: NonNegative = 0.02
    """Weight of mean((v - v_reference)^2)."""
    clip: Positive | None = 0.01
    """PPO-style clip on exp(old error - error); none is off and saves the old policy's forwards."""
    reference: Literal["base", "old"] = "base"
    """The model that errors are compared with: the untrained one, or the old policy (`ema-ref`)."""
    reference_guidance: Annotated[float, Field(ge=1)] = 1.0
    """Guidance of the reference's velocities."""
    times: Count = 4
    """Training times per iteration, drawn without replacement from the rollout's own table."""
    min_sigma: Decay = 0.6
    """The timestep clip: only times of at least this noise level are trained on."""
    one_update: bool = True
    """One optimiser step with the mean gradient of all times; otherwise one per time, with that time's gradient."""
    weights: Literal["advantages", "uniform", "pairs"] = "advantages"
    """How much images count in their group: by their advantages; all better ones alike, and all others; or only the
    best and the worst, which is Diffusion-DPO's margin."""
    old_decay: Decay = 0.3
    """Largest decay of the old policy, an average of the trained weights."""
    old_growth: NonNegative = 0.001
    """The old policy's decay after an optimiser step is this times the number of those before it, up to `old_decay`."""

    @property
    def guided(self) -> bool:
        """Whether the reference is asked with classifier-free guidance."""
        return self.reference_guidance > 1


class Tally:
    """Sums over images, groups and times of one iteration, to be added over ranks and divided.

    They stay on the device and are asked for once: every question makes the host wait for all it has given out.
    """

    def __init__(self, device: torch.device) -> None:
        self.images = self.groups = 0
        self.kl, self.clipped, self.loss = torch.zeros(3, dtype=torch.float64, device=device)

    def averages(self, ranks: Ranks) -> dict[str, float]:
        """The loss is of whole groups, and so the same on all ranks already."""
        sums = ranks.sum(torch.stack([torch.zeros_like(self.kl) + self.images, self.kl, self.clipped]))
        images, kl, clipped, loss = torch.stack([*sums, self.loss]).tolist()
        images = max(1.0, images)
        return {"loss": loss / max(1, self.groups), "kl": kl / images, "clipped": clipped / images}


@dataclass(frozen=True)
class Noised:
    """Images at one training time, with what is needed to take their errors."""

    x0_BCHW: torch.Tensor
    noise_BCHW: torch.Tensor
    x_BCHW: torch.Tensor
    sigma_B: torch.Tensor
    conditioning: Conditioning
    group_B: torch.Tensor
    image_B: torch.Tensor
    advantage_B: torch.Tensor

    def part(self, rows: slice) -> "Noised":
        index = torch.arange(len(self.group_B), device=self.group_B.device)[rows]
        return Noised(
            self.x0_BCHW[rows],
            self.noise_BCHW[rows],
            self.x_BCHW[rows],
            self.sigma_B[rows],
            self.conditioning.take(index),
            self.group_B[rows],
            self.image_B[rows],
            self.advantage_B[rows],
        )


class DGPO(Algorithm):
    """Learns from groups of scored images; `update` makes an optimiser step out of the gradients it left."""

    summary = "Direct Group Preference Optimization (Luo et al. 2025, arXiv 2510.08425): groups of ODE samples"
    Settings = Settings
    shown: ClassVar = {"kl": ".4f"}

    @classmethod
    def needs(cls, settings: Settings) -> Needs:
        """The old policy, where the clip or the margin compares with it."""
        old = settings.clip is not None or settings.reference == "old"
        return Needs(snapshots=frozenset({"old"} if old else ()), guided=settings.guided)

    @classmethod
    def passes(cls, settings: Settings, iteration: Planned) -> dict[str, float]:
        """Of each trained time one pass by the current policy, its backward, and those that it is compared with."""
        times = settings.times * iteration.live_share
        shared = settings.reference == "old" and not settings.guided
        return {
            "old": times if settings.clip is not None or shared else 0,
            "reference": 0 if shared else times * iteration.cost(settings.reference_guidance),
            "current": times,
            "backward": times,
        }

    @classmethod
    def check_times(cls, settings: Settings, times: list[float]) -> None:
        allowed_times(times, settings)

    def updated(self, updates: int) -> None:
        """The old policy follows the trained weights."""
        if "old" in self.policy.snapshots:
            self.policy.follow("old", old_decay(self.settings, updates - 1))

    def learn(self, batch: Batch, step: int, update: Callable[[], None]) -> dict[str, Any]:
        """Learn from the advantages of the batch's scores; see `learn_from`."""
        assert batch.scores_KG is not None, "learning begins when all images are scored"
        advantage_KG = weigh(self.standardise(batch), batch.scores_KG, self.settings.weights)
        return self.learn_from(batch, advantage_KG, step, update)

    def learn_from(
        self, batch: Batch, advantage_KG: torch.Tensor, step: int, update: Callable[[], None]
    ) -> dict[str, Any]:
        """Take the gradient of every trained time and update; loss, KL, share of clipped images, and the times.

        A step is made of one whole gradient: the mean over times, or with `one_update=false` that of one time.

        Groups without a non-zero advantage teach nothing and are skipped, here and in the KL term; where no group has
        one, nothing is updated.

        Raises:
            UsageError: the rollout visits fewer times above `min_sigma` than `times`.
        """
        tally = Tally(self.ranks.device)
        drawn = choose_times(batch.times, self.settings, self.geometry.seed, step)
        times = drawn if advantage_KG.any() else []
        times_a_step = len(times) if self.settings.one_update else 1
        chunks = list(self._chunks(batch, advantage_KG))
        for place, sigma in enumerate(times):
            for chosen, rows in chunks:
                noised = self._noise(batch, advantage_KG, rows, sigma, place, step)
                self._accumulate(noised, chosen, times_a_step, tally)
            if (place + 1) % times_a_step == 0:
                update()
        return {**tally.averages(self.ranks), "times": {"rollout": batch.times, "trained": times}}

    def _chunks(self, batch: Batch, advantage_KG: torch.Tensor) -> Iterator[tuple[list[int], list[int]]]:
        """As many whole groups as fit a micro-batch, and this rank's rows of them, which may be none.

        An image that could not be made is in no row: numbers that do not exist still do not times a weight of 0.

        All ranks walk the same groups together.
        """
        live = advantage_KG.ne(0).any(dim=1).nonzero().flatten().tolist()
        made = [(row, image) for row, image in enumerate(batch.numbers) if image not in batch.failed]
        together = max(1, self.geometry.micro_batch * self.ranks.size // batch.group_size)
        for start in range(0, len(live), together):
            chosen = live[start : start + together]
            yield chosen, [row for row, image in made if image // batch.group_size in chosen]

    def _noise(
        self, batch: Batch, advantage_KG: torch.Tensor, rows: list[int], sigma: float, place: int, step: int
    ) -> Noised:
        """The chosen images at `sigma`, with one noise a group, fresh for every time."""
        row_B = torch.tensor(rows, dtype=torch.int64).to(batch.image_B.device, non_blocking=True)
        image_B, group_B, x0 = batch.image_B[row_B], batch.group_B[row_B], batch.x0_BCHW[row_B]
        groups = [batch.numbers[row] // batch.group_size for row in rows]
        kinds = {
            group: seeded_noise(x0.shape[1:], "time", self.geometry.seed, step, place, batch.prompts[group].id, group)
            for group in set(groups)
        }
        noise = torch.stack([kinds[group] for group in groups]) if kinds else torch.empty(x0.shape)
        noise = noise.to(x0.device, x0.dtype, non_blocking=True)
        advantage_B = advantage_KG.to(x0.device, non_blocking=True).flatten()[image_B]
        sigma_B = torch.full((len(rows),), sigma, device=x0.device)
        return Noised(
            x0,
            noise,
            self.path.add_noise(x0, noise, sigma),
            sigma_B,
            batch.conditioning.take(group_B),
            group_B,
            image_B,
            advantage_B,
        )

    def _accumulate(self, batch: Noised, chosen: list[int], times_a_step: int, tally: Tally) -> None:
        """Add this time's gradient for these groups, as its share of a step's mean over times.

        A rank whose share of one group is larger than a micro-batch first takes the errors without gradient, in parts,
        since every weight needs its whole group's margin; that costs one more forward, and the passes say so.
        """
        settings, images = self.settings, len(batch.group_B)
        size = self.geometry.micro_batch
        reference, reference_error, old_error = self._compare(batch, size)
        parts = [slice(start, start + size) for start in range(0, images, size)]
        whole = self._error(batch) if len(parts) == 1 else None
        if whole is not None:
            error = whole[1].detach()
        else:
            with torch.no_grad():
                errors = [self._error(batch.part(rows))[1] for rows in parts]
            error = torch.cat(errors) if errors else reference_error
        margin_K = group_margins(
            error,
            reference_error,
            batch.advantage_B,
            batch.group_B,
            groups=self.geometry.groups,
            group_size=self.geometry.group_size,
            beta=settings.beta,
            sum_over_ranks=self.ranks.sum,
        )
        weight_B = image_weights(margin_K, batch.advantage_B, batch.group_B)
        if settings.clip is not None:
            counts = unclipped(error, old_error, batch.advantage_B, settings.clip)
            tally.clipped += (~counts).sum()
            weight_B = weight_B * counts
        for rows in parts:
            velocity, part_error = whole or self._error(batch.part(rows))
            self.suspect(part_error, batch.image_B[rows])
            drift_B = (velocity - reference[rows]).square().flatten(1).mean(dim=1)
            loss = preference_loss(part_error, weight_B[rows], self.geometry.images)
            loss = loss + settings.kl * drift_B.sum() / self.geometry.images
            with training_attention(batch.x0_BCHW.device):
                (loss / times_a_step).backward()
            self.policy.passes["backward"] += len(drift_B)
            tally.kl += drift_B.detach().sum()
        tally.images += images
        tally.groups += len(chosen)
        chosen_K = torch.tensor(chosen).to(margin_K.device, non_blocking=True)
        tally.loss += reported_loss(margin_K[chosen_K], settings.beta) * len(chosen)

    def _error(self, batch: Noised) -> tuple[torch.Tensor, torch.Tensor]:
        """The current policy's velocity and its error, with gradient where gradients are on."""
        with training_attention(batch.x0_BCHW.device):
            velocity = self.policy.velocity(
                "current", batch.x_BCHW, batch.sigma_B, batch.conditioning, purpose="current"
            )
        return velocity, self.path.error(velocity, batch.x0_BCHW, batch.noise_BCHW)

    @torch.no_grad()
    def _compare(self, batch: Noised, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The reference's velocity and error, and the old policy's error where the clip needs it."""
        settings = self.settings
        who = "old" if settings.reference == "old" else "reference"
        shared = who == "old" and not settings.guided
        velocities, olds = [], []
        # Margins and clip weigh differences that are smaller than those between two attention kernels in bf16.
        with training_attention(batch.x0_BCHW.device):
            for start in range(0, len(batch.group_B), size):
                part = batch.part(slice(start, start + size))
                inputs = (part.x_BCHW, part.sigma_B, part.conditioning)
                guidance = settings.reference_guidance if settings.guided else None
                velocity = self.policy.velocity(
                    who, *inputs, guidance=guidance, purpose="old" if shared else "reference"
                )
                velocities.append(velocity)
                if settings.clip is not None:
                    olds.append(velocity if shared else self.policy.velocity("old", *inputs, purpose="old"))
        empty = torch.empty_like(batch.x0_BCHW)
        reference = torch.cat(velocities) if velocities else empty
        old = torch.cat(olds) if olds else reference
        reference_error = self.path.error(reference, batch.x0_BCHW, batch.noise_BCHW)
        return reference, reference_error, self.path.error(old, batch.x0_BCHW, batch.noise_BCHW)


def weigh(advantage_KG: torch.Tensor, scores_KG: torch.Tensor, weights: str) -> torch.Tensor:
    """What stands in the place of the advantages in Eq. 17, for an ablation of them; both sides of a group keep equal
    sums, so that the partition function cancels. A group that is dead stays so.

    `uniform`: G / (2 |G+|) for each image with A > 0, and -G / (2 |G-|) for the other scored ones. `pairs`: G / 2 and
    -G / 2 for the best and the worst image, with which the margin is beta / 2 times the difference of their errors.
    """
    if weights == "advantages":
        return advantage_KG
    size = advantage_KG.shape[1]
    if weights == "pairs":
        return mark_pairs(scores_KG, skip_equal=True) * (size / 2)
    live_KG = ~scores_KG.isnan() & advantage_KG.ne(0).any(dim=1, keepdim=True)
    better_KG, worse_KG = live_KG & (advantage_KG > 0), live_KG & (advantage_KG <= 0)
    share_KG = better_KG / better_KG.sum(dim=1, keepdim=True).clamp(min=1) - worse_KG / worse_KG.sum(
        dim=1, keepdim=True
    ).clamp(min=1)
    return share_KG.double() * (size / 2)


def old_decay(settings: Settings, before: int) -> float:
    """The old policy's decay after an optimiser step that `before` others came before; the first one copies."""
    return min(settings.old_decay, settings.old_growth * before)


def choose_times(table: list[float], settings: Settings, seed: int, step: int) -> list[float]:
    """M times of the rollout's own table within the timestep clip, without replacement; the same on all ranks."""
    allowed = allowed_times(table, settings)
    order = torch.randperm(len(allowed), generator=generator_of(seed * 1_000_003 + step)).tolist()
    return [allowed[place] for place in order[: settings.times]]


def allowed_times(table: list[float], settings: Settings) -> list[float]:
    """The times of a table within the timestep clip; UsageError where they are fewer than are trained on."""
    allowed = [sigma for sigma in table if sigma >= settings.min_sigma]
    if len(allowed) < settings.times:
        visited = ", ".join(f"{sigma:.3f}" for sigma in table)
        raise UsageError(
            f"dgpo.times is {settings.times}, but the rollout visits {len(allowed)} times of at least "
            f"dgpo.min_sigma {settings.min_sigma:g} ({visited}). Lower one of them, or raise sampling.steps."
        )
    return allowed
