"""What one iteration learns from: the images of K prompts, G of each, and what is known of them.

Shapes: B images of this rank, dealt as in `parallel`; group_B says to which of the K prompts each belongs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from dgpo.models.model import Conditioning
from rewards.prompt import Prompt


@dataclass(frozen=True)
class Trajectory:
    """Every step of a stochastic rollout, for algorithms that need the likelihood of what was drawn.

    states_SBCHW holds S + 1 states, from noise to image; log_probability_SB and sigma_S one entry per step.
    """

    states_SBCHW: torch.Tensor
    log_probability_SB: torch.Tensor
    sigma_S: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """What a source leaves behind on one rank; every rank numbers images and groups alike."""

    prompts: Sequence[Prompt]
    group_size: int
    image_B: torch.Tensor
    """Number of each image among all K * G, int64; group = number // G."""
    x0_BCHW: torch.Tensor
    conditioning: Conditioning
    """One row per prompt, K in all."""
    times: list[float]
    """The sampler's table, as sigma, first to last."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """By an image's number why there is none: its latents or pixels are not finite, and it can teach nothing."""
    scores_KG: torch.Tensor | None = None
    """What is learned from, float64, NaN where an image has no score; None until all are scored."""
    trajectory: Trajectory | None = None

    @property
    def group_B(self) -> torch.Tensor:
        return self.image_B // self.group_size

    @property
    def drawn_B(self) -> torch.Tensor:
        """Whether each image was made; bool."""
        made = [image not in self.failed for image in self.image_B.tolist()]
        return torch.tensor(made, device=self.image_B.device, dtype=torch.bool)

    def scored(self, scores_KG: torch.Tensor) -> "Batch":
        """The same with its scores."""
        return replace(self, scores_KG=scores_KG)
