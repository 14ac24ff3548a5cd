"""Draw groups of images: K prompts, G images of each, by the deterministic ODE sampler.

Shapes: B images of this rank, dealt as in `parallel`; group_B says to which of the K prompts each belongs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from dgpo.config import Sampling
from dgpo.flow import integrate, seeded_noise
from dgpo.models.sd3 import Conditioning
from dgpo.parallel import Ranks
from dgpo.policy import Policy, Who
from dgpo.schedule import sampled_times
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
    failed: Mapping[int, str] = field(default_factory=dict)
    """By an image's number why there is none: its latents or pixels are not finite, and it can teach nothing."""

    @property
    def group_B(self) -> torch.Tensor:
        return self.image_B // self.group_size

    @property
    def drawn_B(self) -> torch.Tensor:
        """Whether each image was made; bool."""
        made = [image not in self.failed for image in self.image_B.tolist()]
        return torch.tensor(made, device=self.image_B.device, dtype=torch.bool)


def draw_latents(
    policy: Policy, noise_BCHW: torch.Tensor, conditioning: Conditioning, sampling: Sampling, *, who: Who
) -> torch.Tensor:
    """Latents [B, C, H, W] in fp32 from starting noise, one conditioning row an image."""
    scheduler = policy.model.scheduler(sampling, noise_BCHW.shape[1:])

    def velocity(x_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return policy.velocity(who, x_BCHW, sigma_B, conditioning, guidance=sampling.guidance, purpose="rollout")

    with torch.no_grad():
        return integrate(velocity, noise_BCHW.to(policy.model.device), scheduler)


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
    return Groups(
        prompts,
        group_size,
        torch.tensor(image_B, device=model.device, dtype=torch.int64),
        torch.cat(latents),
        conditioning,
        sampled_times(model.scheduler(sampling, shape)),
        failed,
    )
