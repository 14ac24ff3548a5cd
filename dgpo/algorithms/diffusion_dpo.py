"""Diffusion-DPO online (Wallace et al. 2023, arXiv 2311.12908): of each group the best image is preferred to the worst.

Two forms. The textbook's pairs come from the policy as it is, or from its base (`--offline`), and the base is the
reference. The form of Flow-GRPO's code draws with the reference always, which is replaced by the learner every so many
steps, or never. Shapes: K prompts, G images of each; B images of this rank in hand; P pairs, numbered as their groups.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import torch

from dgpo.algorithms.algorithm import Algorithm, Needs, Planned
from dgpo.algorithms.group_preference import group_margins, image_weights
from dgpo.batch import Batch
from dgpo.models.attention import training_attention
from dgpo.noise import seeded_generator, seeded_noise
from dgpo.policy import Who
from dgpo.sections import Count, Decay, Positive, Section, Whole
from rewards.errors import UsageError

TRAINING_TIMES = 1000


class Settings(Section):
    beta: Positive = 100.0
    """The paper's beta T omega(lambda_t), as one number: how sharply a pair saturates."""
    times: Count = 4
    """Training times per iteration, each with its own noise, made into one optimiser step."""
    choice: Literal["table", "logit-normal"] = "table"
    """Times of the rollout's own table, the same for all pairs; or a draw for each pair of the 1,000 training times,
    their place a sigmoid of a normal number (the released code)."""
    min_sigma: Decay = 0.0
    """Of the table only times of at least this noise level."""
    shift: Positive = 3.0
    """Of the training times of `logit-normal`: sigma = s u / (1 + (s - 1) u)."""
    draw: Literal["current", "reference"] = "current"
    """Whose images make the pairs."""
    refresh: Whole = 0
    """Optimiser steps after which the learner becomes the reference; 0 keeps the untrained model."""
    skip_equal: bool = True
    """Make no pair of a group whose scores are all equal; the released code prefers its second image to the first."""


class DiffusionDPO(Algorithm):
    """One pair per group."""

    summary = "Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908): the best image of a group against the worst"
    Settings = Settings
    shown: ClassVar = {"pairs": ".0f"}

    @classmethod
    def needs(cls, settings: Settings) -> Needs:
        kept = frozenset({"anchor"} if settings.refresh else ())
        draws = "current" if settings.draw == "current" else reference_of(settings)
        return Needs(snapshots=kept, draws=draws, own_times=settings.choice == "logit-normal")

    @classmethod
    def passes(cls, settings: Settings, iteration: Planned) -> dict[str, float]:
        """Two images of each group are learned from."""
        times = 2 / iteration.group_size * settings.times * iteration.live_share
        return {"reference": times, "current": times, "backward": times}

    @classmethod
    def check_times(cls, settings: Settings, times: list[float]) -> None:
        allowed = [sigma for sigma in times if sigma >= settings.min_sigma]
        if settings.choice == "table" and len(allowed) < settings.times:
            raise UsageError(
                f"diffusion_dpo.times is {settings.times}, but the rollout visits {len(allowed)} times of at least "
                f"diffusion_dpo.min_sigma {settings.min_sigma:g}. Lower one of them, or raise sampling.steps."
            )

    def updated(self, updates: int) -> None:
        if self.settings.refresh and updates % self.settings.refresh == 0:
            self.policy.follow("anchor", 0.0)

    def learn(self, batch: Batch, step: int, update: Callable[[], None]) -> dict[str, Any]:
        assert batch.scores_KG is not None, "learning begins when all images are scored"
        mark_KG = mark_pairs(batch.scores_KG, skip_equal=self.settings.skip_equal)
        pairs = int(mark_KG.gt(0).sum())
        loss, trained = 0.0, []
        for place in range(self.settings.times if pairs else 0):
            sigma_K = self._times(batch, place, step)
            trained.append(sigma_K.max().item())
            for chosen_P in self._chunks(mark_KG):
                loss += self._accumulate(batch, mark_KG, chosen_P, sigma_K, (step, place), pairs)
        if pairs:
            update()
        table = {"rollout": batch.times, "trained": trained if self.settings.choice == "table" else []}
        return {"loss": loss / max(1, pairs * self.settings.times), "pairs": pairs, "times": table}

    def _times(self, batch: Batch, place: int, step: int) -> torch.Tensor:
        """The noise level of each group's pair; [K]."""
        settings, seed, groups = self.settings, self.geometry.seed, len(batch.prompts)
        if settings.choice == "table":
            allowed = [sigma for sigma in batch.times if sigma >= settings.min_sigma]
            order = torch.randperm(len(allowed), generator=seeded_generator("table", seed, step)).tolist()
            return torch.full((groups,), allowed[order[place]])
        normal = torch.randn(groups, generator=seeded_generator("logit-normal", seed, step, place))
        return training_sigma(normal.sigmoid(), settings.shift)

    def _chunks(self, mark_KG: torch.Tensor) -> Iterator[torch.Tensor]:
        """Groups whose pairs fit a micro-batch of all ranks together; all ranks walk the same ones."""
        live = mark_KG.ne(0).any(dim=1).nonzero().flatten()
        yield from live.split(max(1, self.geometry.micro_batch * self.ranks.size // 2))

    def _accumulate(
        self,
        batch: Batch,
        mark_KG: torch.Tensor,
        chosen_P: torch.Tensor,
        sigma_K: torch.Tensor,
        turn: tuple[int, int],
        pairs: int,
    ) -> float:
        """Add the gradient of these pairs at one time; returns the sum of their losses, the same on all ranks.

        A rank that holds more of their images than a micro-batch first takes the errors without gradient, in parts.
        """
        settings, device = self.settings, batch.x0_BCHW.device
        mark_B = mark_KG.flatten().to(device)[batch.image_B]
        rows = (mark_B.ne(0) & torch.isin(batch.group_B, chosen_P.to(device))).nonzero().flatten()
        group_B, parts = batch.group_B[rows], rows.split(self.geometry.micro_batch) if len(rows) else ()
        who = reference_of(settings)
        with torch.no_grad():
            reference = [self._error(who, batch, part, sigma_K, turn) for part in parts]
        errors = [self._error("current", batch, parts[0], sigma_K, turn)] if len(parts) == 1 else None
        if errors is None:
            with torch.no_grad():
                known = [self._error("current", batch, part, sigma_K, turn) for part in parts]
        else:
            known = errors
        empty = torch.zeros(0, device=device)
        margin_K = group_margins(
            torch.cat([error.detach() for error in known]) if known else empty,
            torch.cat(reference) if reference else empty,
            mark_B[rows],
            group_B,
            groups=self.geometry.groups,
            group_size=2,
            beta=settings.beta,
            sum_over_ranks=self.ranks.sum,
        )
        weight_B = image_weights(margin_K, mark_B[rows], group_B) * settings.beta / 2
        places = torch.arange(len(rows), device=device).split(self.geometry.micro_batch) if len(rows) else ()
        for part, place in zip(parts, places, strict=True):
            error = errors[0] if errors is not None else self._error("current", batch, part, sigma_K, turn)
            self.suspect(error, batch.image_B[part])
            with training_attention(device):
                ((weight_B[place].to(error) * error).sum() / (pairs * settings.times)).backward()
            self.policy.passes["backward"] += len(part)
        return pair_loss(margin_K[chosen_P.to(margin_K.device)]).sum().item()

    def _error(
        self, who: Who, batch: Batch, rows: torch.Tensor, sigma_K: torch.Tensor, turn: tuple[int, int]
    ) -> torch.Tensor:
        """Of some images at their pairs' noise, which both images of a pair share; [B]."""
        group_B, x0 = batch.group_B[rows], batch.x0_BCHW[rows]
        kinds = [
            seeded_noise(tuple(x0.shape[1:]), "pair", self.geometry.seed, *turn, batch.prompts[group].id, group)
            for group in group_B.tolist()
        ]
        noise, sigma_B = torch.stack(kinds).to(x0), sigma_K.to(x0)[group_B]
        x = self.path.add_noise(x0, noise, sigma_B.view(-1, 1, 1, 1))
        with training_attention(x0.device):
            velocity = self.policy.velocity(
                who,
                x,
                sigma_B,
                batch.conditioning.take(group_B),
                purpose="current" if who == "current" else "reference",
            )
        return self.path.error(velocity, x0, noise)


def pair_loss(margin_P: torch.Tensor) -> torch.Tensor:
    """-ln sigmoid(-margin); torch's softplus is the same only up to 20, where it drops what is left."""
    return -torch.nn.functional.logsigmoid(-margin_P)


def reference_of(settings: Settings) -> Who:
    """Whose errors are compared with."""
    return "anchor" if settings.refresh else "reference"


def mark_pairs(scores_KG: torch.Tensor, *, skip_equal: bool) -> torch.Tensor:
    """1 for the best image of each group, -1 for its worst, the first of equals; 0 elsewhere; float64 [K, G].

    A failed score (NaN) is in no pair. Where all scores are equal there is no pair, or, without `skip_equal`, the
    second scored image is preferred to the first, as in the released code.

    >>> mark_pairs(torch.tensor([[0.1, 0.9, 0.4], [0.5, 0.5, 0.5]]), skip_equal=True).tolist()
    [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    mark_KG = torch.zeros_like(scores_KG, dtype=torch.float64)
    for scores_G, mark_G in zip(scores_KG, mark_KG, strict=True):
        scored = (~scores_G.isnan()).nonzero().flatten()
        if len(scored) < 2:
            continue
        best, worst = scored[scores_G[scored].argmax()], scored[scores_G[scored].argmin()]
        if scores_G[best] == scores_G[worst]:
            if skip_equal:
                continue
            worst, best = scored[0], scored[1]
        mark_G[best], mark_G[worst] = 1.0, -1.0
    return mark_KG


def training_sigma(u: torch.Tensor, shift: float) -> torch.Tensor:
    """The noise level of place u in [0, 1) of the 1,000 training times, which begin with pure noise."""
    even = (TRAINING_TIMES - (u * TRAINING_TIMES).floor()) / TRAINING_TIMES
    return shift * even / (1 + (shift - 1) * even)
