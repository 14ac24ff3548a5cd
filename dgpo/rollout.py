"""Draw groups of images: K prompts, G images of each, by the deterministic ODE sampler.

Shapes: B images of this rank, dealt as in `parallel`; group_B says to which of the K prompts each belongs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from dgpo.config import Sampling
from dgpo.flow import build_scheduler, integrate, sampled_times, seeded_noise
from dgpo.models.sd3 import Conditioning
from dgpo.parallel import Ranks
from dgpo.policy import Policy, Who
from rewards.prompt import Prompt


@dataclass(frozen=True)
class Groups:
    """What one rollout leaves behind on one rank."""

    prompts: Sequence[Prompt]
    group_size: int
    image_B: torch.Tensor
    """Number of each image among all K * G, int64; group = number // G."""
    x0_BCHW: torch.Tensor
    conditioning: Conditioning
    """One row a prompt, K in all."""
    times: list[float]
    """The sampler's table, as sigma, first to last."""

    @property
    def group_B(self) -> torch.Tensor:
        return self.image_B // self.group_size


def draw_latents(
    policy: Policy, noise_BCHW: torch.Tensor, conditioning: Conditioning, sampling: Sampling, *, who: Who
) -> tuple[torch.Tensor, list[float]]:
    """Latents [B, C, H, W] in fp32 from starting noise, one conditioning row an image, and the times visited."""
    scheduler = build_scheduler(sampling.sampler, policy.model.pipeline.scheduler.config, sampling.steps)

    def velocity(x_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return policy.velocity(who, x_BCHW, sigma_B, conditioning, guidance=sampling.guidance, purpose="rollout")

    with torch.no_grad():
        return integrate(velocity, noise_BCHW.to(policy.model.device), scheduler), sampled_times(scheduler)


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
) -> Groups:
    """This rank's share of K x G images; `on_images` gets each micro-batch as soon as it is decoded.

    The noise of an image depends on the run's seed, the iteration, its prompt and its number among the K x G alone.
    """
    model = policy.model
    conditioning = model.encode([prompt.text for prompt in prompts])
    shape = model.latent_shape(sampling.height, sampling.width)
    latents, times = [], []
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
        x0, times = draw_latents(policy, noise, rows, sampling, who=who)
        latents.append(x0)
        on_images(model.decode(x0), owners)
    if not latents:
        latents = [torch.empty(0, *shape, device=model.device)]
    return Groups(
        prompts,
        group_size,
        torch.tensor(image_B, device=model.device, dtype=torch.int64),
        torch.cat(latents),
        conditioning,
        times,
    )
