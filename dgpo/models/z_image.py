"""Z-Image, through diffusers: time runs from noise to image there, and the network gives the negative velocity.

Shapes: N prompts, T tokens, D text width; B images, C, H, W of the latent.
"""

from collections.abc import Mapping
from typing import Any

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.padded import PaddedConditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.sections import Sampling


class ZImage(PipelineModel):
    """Guidance is counted as everywhere here: its pipeline's 5 is 6."""

    pipeline_class = "ZImagePipeline"
    summary = "Z-Image; classifier-free guidance (6 here is 5 in its pipeline)"
    recipes = "z-image-"
    defaults = Sampling(sampler="euler", steps=50, guidance=6.0, text_length=512)
    lora_targets = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        return Canvas(
            channels=network.get("in_channels", 16),
            cells=128,
            scale=2 ** (len(autoencoder.get("block_out_channels", (64,))) - 1),
            patch=2,
        )

    @torch.no_grad()
    def encode_text(self, text: str) -> PaddedConditioning:
        rows, _ = self.pipeline.encode_prompt(
            [text], self.device, do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return PaddedConditioning.of(rows[0][None])

    def blank(self, rows: int) -> PaddedConditioning:
        states_1TD = torch.empty(1, self.text_length, self.transformer.config.cap_feat_dim, dtype=self.dtype)
        return PaddedConditioning.of(states_1TD).first(rows)

    def own_arguments(self, texts: list[str], guidance: float) -> dict[str, Any]:
        return super().own_arguments(list(texts), guidance - 1)

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: PaddedConditioning,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        predicted = self.ask(
            weights,
            x=list(x_BCHW.to(self.dtype).unsqueeze(2).unbind()),  # images of one frame
            t=1 - sigma_B,
            cap_feats=[states.to(self.dtype) for states in conditioning.rows()],
        )
        return -torch.stack([one.float() for one in predicted]).squeeze(2)
