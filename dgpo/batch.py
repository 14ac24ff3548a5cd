"""What one iteration learns from: the images of K prompts, G of each, and what is known of them.

Shapes: B images of this rank, dealt as in `parallel`; group_B says to which of the K prompts each belongs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from dgpo.models.model import Conditioning
from dgpo.stochastic import Interval, StochasticStep
from rewards.prompt import Prompt


@dataclass(frozen=True)
class Trajectory:
    """The S stochastic steps of a rollout, for algorithms that need the likelihood of what was drawn; on one rank."""

    step: StochasticStep
    intervals: Sequence[Interval]
    """From which noise level to which, one per step."""
    times: Sequence[float]
    """At which the network was asked, as sigma; the solver's own are not rounded as they are."""
    states_SBCHW: torch.Tensor
    """S + 1 states, each the start of a step and the end of the one before."""
    log_probability_SB: torch.Tensor
    """Of each step as it was drawn."""
    means_SBCHW: torch.Tensor | None
    """Where each step would have gone without noise, where the algorithm needs it."""
    guidance: float
    """Of the velocities that drew."""


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

    @cached_property
    def numbers(self) -> list[int]:
        """`image_B` on the host: asked for once, since a GPU answers only when it has done all it was given."""
        return self.image_B.tolist()

    @property
    def drawn_B(self) -> torch.Tensor:
        """Whether each image was made; bool."""
        made = torch.tensor([image not in self.failed for image in self.numbers], dtype=torch.bool)
        return made.to(self.image_B.device, non_blocking=True)

    def name_images(self, numbers: Sequence[int]) -> list[str]:
        """Images by their numbers and prompts, for a sentence."""
        return [f'{number} of "{self.prompts[number // self.group_size].text}"' for number in numbers]

    def scored(self, scores_KG: torch.Tensor) -> "Batch":
        """The same with its scores."""
        return replace(self, scores_KG=scores_KG)
