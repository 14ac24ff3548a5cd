"""Networks that take the guidance as an input: it was distilled into them.

Shapes: B images; C, H, W of the latent.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from dgpo.models.pipeline_model import PipelineModel


class ToldGuidance(PipelineModel):
    """One pass a velocity, whatever the guidance; there is no unguided prediction."""

    @classmethod
    def passes(cls, guidance: float | None) -> int:
        return 1

    def velocity(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Any,
        *,
        guidance: float | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """v(x_t, t, prompt, guidance), in learning with the guidance of the rollouts."""
        scale = self.scale if guidance is None else guidance
        return self.predict(x_BCHW, sigma_B, conditioning, weights, scale)

    @abstractmethod
    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Any,
        weights: Mapping[str, torch.Tensor] | None,
        scale: float = 1.0,
    ) -> torch.Tensor:
        """One pass through the network, told the guidance, in fp32."""
