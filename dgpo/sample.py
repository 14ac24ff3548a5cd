"""Images of given prompts and seeds: one function for evaluation, sample grids and `dgpo sample`."""

from collections.abc import Sequence

import torch
from PIL import Image

from dgpo.noise import seeded_noise
from dgpo.policy import Policy, Who
from dgpo.rollout import draw_latents
from dgpo.sections import Evaluation, Sampling
from rewards.prompt import Prompt


def draw_images(
    policy: Policy,
    cells: Sequence[tuple[Prompt, int]],
    sampling: Sampling,
    *,
    who: Who = "current",
    micro_batch: int = 16,
) -> list[Image.Image | str]:
    """One image a (prompt, seed), or the reason why there is none.

    The starting noise depends on the prompt's id and the seed alone, so that models, batch sizes and machines are
    compared on the same noise.
    """
    model = policy.model
    shape = model.latent_shape(sampling.height, sampling.width)
    images: list[Image.Image | str] = []
    texts = [prompt.text for prompt, _ in cells]
    for start in range(0, len(cells), micro_batch):
        chosen = cells[start : start + micro_batch]
        noise = torch.stack([seeded_noise(shape, "image", prompt.id, seed) for prompt, seed in chosen])
        conditioning = model.encode([prompt.text for prompt, _ in chosen], soon=texts)
        latents = draw_latents(policy, noise, conditioning, sampling, who=who)
        images += model.decode(latents)
    return images


def evaluation_sampling(sampling: Sampling, evaluation: Evaluation) -> Sampling:
    """The sampler of evaluations: the rollout's, with the steps and guidance that are named for evaluation."""
    changes = {"steps": evaluation.steps, "guidance": evaluation.guidance}
    return sampling.model_copy(update={name: value for name, value in changes.items() if value is not None})
