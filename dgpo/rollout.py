"""The online source: K prompts, G images of each, drawn now by the policy.

Shapes: B images of this rank, dealt as in `parallel`; C, H, W of the latent.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image

from dgpo.algorithms.algorithm import Needs
from dgpo.batch import Batch, Trajectory
from dgpo.config import Config
from dgpo.models.attention import training_attention
from dgpo.models.model import Conditioning
from dgpo.noise import seeded_noise
from dgpo.parallel import Ranks
from dgpo.policy import REFERENCE, Merged, Policy, Who, can_merge
from dgpo.prompts import PromptStream
from dgpo.sa_solver import NOISE_LEVEL, SASampler
from dgpo.samplers import SAMPLERS, OnStep, Sampler, StochasticSampler, ignore_step
from dgpo.sections import Sampling
from dgpo.source import Drawn
from dgpo.stochastic import STEPS
from dgpo.windows import kind_of_noise, stochastic_steps
from rewards.errors import UsageError
from rewards.pool import Scored
from rewards.prompt import Prompt

READ_AHEAD = 64  # prompts
LOST = 0.1  # of what adapters add, by rounding
Draw = Callable[[int], torch.Tensor]
Submit = Callable[[Sequence[Image.Image], Sequence[Prompt]], "Future[Scored]"]


def draw_latents(
    policy: Policy,
    noise_BCHW: torch.Tensor,
    conditioning: Conditioning,
    sampling: Sampling,
    *,
    who: Who,
    on_step: OnStep = ignore_step,
    sampler: Sampler | None = None,
) -> torch.Tensor:
    """Latents [B, C, H, W] in fp32 from starting noise, one conditioning row per image; by `sampling.sampler`, or by
    another one on the same times."""
    schedule = policy.model.schedule(sampling, noise_BCHW.shape[1:])

    def velocity(x_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return policy.velocity(who, x_BCHW, sigma_B, conditioning, guidance=sampling.guidance, purpose="rollout")

    # What is recorded is compared with what training computes, to the last bit on policy: by the same kernels.
    attention = nullcontext() if sampler is None else training_attention(policy.model.device)
    with torch.no_grad(), attention:
        sampler = sampler or SAMPLERS[sampling.sampler]
        start_BCHW = policy.model.start(noise_BCHW.to(policy.model.device), schedule)
        return sampler(velocity, start_BCHW, schedule, on_step)


def draw_groups(
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    group_size: int,
    sampling: Sampling,
    micro_batch: int,
    who: Who,
    ranks: Ranks,
    seed: int,
    step: int,
    on_images: Callable[[list[Image.Image], list[Prompt]], None],
    noise: "Noise | None" = None,
    soon: Sequence[Prompt] = (),
) -> Batch:
    """This rank's share of K x G images; `on_images` gets those of a micro-batch as soon as they are decoded.

    The noise of an image depends on the run's seed, the iteration, its prompt and its number among the K x G alone.

    Args:
        noise: that is added on the way; without it images are drawn by an ODE.
        soon: prompts of the iterations that follow.
    """
    model = policy.model
    conditioning = model.encode([prompt.text for prompt in prompts], [prompt.text for prompt in soon])
    shape = model.latent_shape(sampling.height, sampling.width)
    latents, failed, recorded = [], {}, []
    image_B = ranks.share(len(prompts) * group_size)
    for start in range(0, len(image_B), micro_batch):
        chosen = image_B[start : start + micro_batch]
        owners = [prompts[image // group_size] for image in chosen]

        def draw(what: str, chosen: Sequence[int] = chosen, owners: Sequence[Prompt] = owners) -> torch.Tensor:
            identities = [(prompt.id, image) for image, prompt in zip(chosen, owners, strict=True)]
            return torch.stack([seeded_noise(shape, what, seed, step, *identity) for identity in identities])

        sampler = None if noise is None else noise.sampler(lambda number, draw=draw: draw(f"rollout {number}"))
        rows = conditioning.take(torch.tensor([image // group_size for image in chosen], device=model.device))
        x0 = draw_latents(policy, draw("rollout"), rows, sampling, who=who, sampler=sampler)
        latents.append(x0)
        recorded += [sampler] if isinstance(sampler, StochasticSampler) else []
        decoded = list(zip(chosen, model.decode(x0), owners, strict=True))
        failed |= {image: reason for image, reason, _ in decoded if isinstance(reason, str)}
        made = [(image, owner) for _, image, owner in decoded if not isinstance(image, str)]
        if made:
            on_images([image for image, _ in made], [owner for _, owner in made])
    if not latents:
        latents = [torch.empty(0, *shape, device=model.device)]
    return Batch(
        prompts,
        group_size,
        torch.tensor(image_B, device=model.device, dtype=torch.int64),
        torch.cat(latents),
        conditioning,
        model.schedule(sampling, shape).times,
        failed,
        trajectory=join_trajectories(recorded, sampling.guidance) if noise is not None and noise.kept else None,
    )


@dataclass(frozen=True)
class Noise:
    """How a stochastic rollout draws, and whether what it did is kept."""

    sampler: Callable[[Draw], Sampler]
    """For one micro-batch, whose noise it is given by the step's number."""
    kept: bool = False
    """Whether an algorithm learns from the trajectory."""


def join_trajectories(parts: Sequence[StochasticSampler], guidance: float) -> Trajectory | None:
    """The trajectory of all images of a rank, out of those of its micro-batches; None on a rank without images."""
    if not parts or not parts[0].intervals:
        return None

    def join(values: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        return torch.cat([torch.stack(list(part)) for part in values], dim=1)

    means = [part.means for part in parts if part.means is not None]
    return Trajectory(
        parts[0].step,
        parts[0].intervals,
        parts[0].times,
        join([part.states for part in parts]),
        join([part.log_probabilities for part in parts]),
        join(means) if means else None,
        guidance,
    )


class Rollout:
    """Online images: drawn in each iteration by the policy as it is then, or by its untouched base (`offline`)."""

    def __init__(
        self,
        policy: Policy,
        config: Config,
        prompts: PromptStream,
        submit: Submit,
        ranks: Ranks,
        *,
        needs: Needs,
        offline: bool = False,
    ) -> None:
        self.policy, self.config, self.prompts, self.submit = policy, config, prompts, submit
        self.ranks, self.needs, self.offline = ranks, needs, offline

    def draw(self, step: int, who: Who | None = None) -> Drawn:
        """One rollout; its images are being scored while the next ones are drawn.

        Args:
            who: draws, if not the one that the iteration has for it.
        """
        config, scored, handing_s = self.config, [], 0.0

        def score(images: list[Image.Image], prompts: list[Prompt]) -> None:
            nonlocal handing_s
            start = time.perf_counter()
            scored.append(self.submit(images, prompts))
            handing_s += time.perf_counter() - start

        who, passes = who or self.who(step), self.policy.passes["rollout"]
        merged = choose_merged(self.policy, config, self.needs, who)
        with self.policy.drawing_with(who, merged):
            batch = draw_groups(
                self.policy,
                self.prompts.take(step, config.groups),
                group_size=config.group_size,
                sampling=config.sampling,
                micro_batch=config.rollout.micro_batch,
                who=who,
                ranks=self.ranks,
                seed=config.seed,
                step=step,
                on_images=score,
                noise=choose_noise(config, self.needs, step),
                soon=self._upcoming(step),
            )
        passes = self.policy.passes["rollout"] - passes
        return Drawn(batch, scored, handing_s, merged=merged is not None, passes=passes)

    def _upcoming(self, step: int) -> list[Prompt]:
        """Of the next iterations, so many that fetching text encoders for them takes no time to speak of."""
        last = min(self.config.steps, step + 1 + -(-READ_AHEAD // self.config.groups))
        return [prompt for one in range(step + 1, last) for prompt in self.prompts.take(one, self.config.groups)]

    def who(self, step: int) -> Who:
        """Whose images an iteration learns from."""
        if self.offline:
            return "reference"
        old_after = self.config.rollout.old_after
        return "old" if old_after is not None and step >= old_after else self.needs.draws


def choose_merged(policy: Policy, config: Config, needs: Needs, who: Who) -> Merged | None:
    """The merged weights by which `who` draws; None where it draws with its adapters, or has none.

    Raises:
        UsageError: they are asked for, and these adapters cannot be merged.
    """
    if who == REFERENCE or config.training.method == "full":
        return None
    wanted, possible = config.rollout.merge, may_merge(policy, config, needs)
    if not possible and wanted == "always":
        raise UsageError(
            "rollout.merge=always, and these adapters cannot be merged: weights are held in fewer bits "
            "(training.quantize), layers are not linear (training.modules), or the algorithm learns from the steps of "
            "its own rollout. Leave it at auto."
        )
    if not possible:
        return None
    merged = policy.merge(who)
    # One look from the host an iteration; fp32 loses next to nothing, but for adapters that add nothing yet.
    fits = wanted == "always" or policy.model.transformer.dtype == torch.float32 or merged.lost.item() <= LOST
    return merged if fits else None


def may_merge(policy: Policy, config: Config, needs: Needs) -> bool:
    """Whether adapters can be merged for drawing, and the settings and the algorithm allow it."""
    wanted = config.rollout.merge != "never" and not needs.trajectory
    return wanted and can_merge(policy.model.transformer, config.training)


def choose_noise(config: Config, needs: Needs, step: int) -> Noise | None:
    """The noise of an iteration's rollout, as the config says, or else as the algorithm needs it."""
    settings = config.rollout
    kind = kind_of_noise(settings, needs)
    if kind == "none":
        return None
    if kind == "sa":
        level = NOISE_LEVEL if settings.noise_level is None else settings.noise_level
        return Noise(partial(SASampler, level))
    how = STEPS[kind]() if settings.noise_level is None else STEPS[kind](settings.noise_level)
    steps = stochastic_steps(settings, config.sampling.steps, seed=config.seed, iteration=step)
    return Noise(partial(StochasticSampler, how, steps, means=needs.means), kept=needs.trajectory)
