"""The online source: K prompts, G images of each, drawn now by the policy.

Shapes: B images of this rank, dealt as in `parallel`; C, H, W of the latent.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch
from PIL import Image

from dgpo.batch import Batch
from dgpo.config import Config
from dgpo.models.model import Conditioning
from dgpo.noise import seeded_noise
from dgpo.parallel import Ranks
from dgpo.policy import Policy, Who
from dgpo.prompts import PromptStream
from dgpo.samplers import SAMPLERS, OnStep, ignore_step
from dgpo.sections import Sampling
from dgpo.source import Drawn
from rewards.pool import Scored
from rewards.prompt import Prompt

Submit = Callable[[Sequence[Image.Image], Sequence[Prompt]], "Future[Scored]"]


def draw_latents(
    policy: Policy,
    noise_BCHW: torch.Tensor,
    conditioning: Conditioning,
    sampling: Sampling,
    *,
    who: Who,
    on_step: OnStep = ignore_step,
) -> torch.Tensor:
    """Latents [B, C, H, W] in fp32 from starting noise, one conditioning row per image."""
    schedule = policy.model.schedule(sampling, noise_BCHW.shape[1:])

    def velocity(x_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return policy.velocity(who, x_BCHW, sigma_B, conditioning, guidance=sampling.guidance, purpose="rollout")

    with torch.no_grad():
        return SAMPLERS[sampling.sampler](velocity, noise_BCHW.to(policy.model.device), schedule, on_step)


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
) -> Batch:
    """This rank's share of K x G images; `on_images` gets those of a micro-batch as soon as they are decoded.

    The noise of an image depends on the run's seed, the iteration, its prompt and its number among the K x G alone.
    """
    model = policy.model
    conditioning = model.encode([prompt.text for prompt in prompts])
    shape = model.latent_shape(sampling.height, sampling.width)
    latents, failed = [], {}
    image_B = ranks.share(len(prompts) * group_size)
    for start in range(0, len(image_B), micro_batch):
        chosen = image_B[start : start + micro_batch]
        owners = [prompts[image // group_size] for image in chosen]
        noise = torch.stack(
            [
                seeded_noise(shape, "rollout", seed, step, prompt.id, image)
                for image, prompt in zip(chosen, owners, strict=True)
            ]
        )
        rows = conditioning.take(torch.tensor([image // group_size for image in chosen], device=model.device))
        x0 = draw_latents(policy, noise, rows, sampling, who=who)
        latents.append(x0)
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
        offline: bool = False,
    ) -> None:
        self.policy, self.config, self.prompts, self.submit = policy, config, prompts, submit
        self.ranks, self.offline = ranks, offline

    def draw(self, step: int) -> Drawn:
        """One rollout; its images are being scored while the next ones are drawn."""
        config, scored, handing_s = self.config, [], 0.0

        def score(images: list[Image.Image], prompts: list[Prompt]) -> None:
            nonlocal handing_s
            start = time.perf_counter()
            scored.append(self.submit(images, prompts))
            handing_s += time.perf_counter() - start

        batch = draw_groups(
            self.policy,
            self.prompts.take(step, config.groups),
            group_size=config.group_size,
            sampling=config.sampling,
            micro_batch=config.rollout.micro_batch,
            who=self._who(step),
            ranks=self.ranks,
            seed=config.seed,
            step=step,
            on_images=score,
        )
        return Drawn(batch, scored, handing_s)

    def _who(self, step: int) -> Who:
        if self.offline:
            return "reference"
        old_after = self.config.rollout.old_after
        return "old" if old_after is not None and step >= old_after else "current"
