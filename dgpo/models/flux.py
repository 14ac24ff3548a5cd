"""FLUX.1 (dev and schnell), through diffusers: guidance is an input of the network, or none is known.

Shapes: N prompts, T tokens, D text width, P pooled width; B images, C, H, W of the latent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.model import Conditioning
from dgpo.models.packing import pack, patch_places, unpack
from dgpo.models.told_guidance import ToldGuidance
from dgpo.sections import Sampling


@dataclass(frozen=True)
class FluxConditioning(Conditioning):
    """T5's states [N, T, D] and CLIP's pooled vector [N, P]."""

    states_NTD: torch.Tensor
    pooled_NP: torch.Tensor


class Flux(ToldGuidance):
    """One pass a velocity, whatever the guidance: it was distilled into the network (dev) or away (schnell)."""

    pipeline_class = "FluxPipeline"
    summary = "FLUX.1 dev, whose network takes the guidance as an input, and schnell, which takes none"
    recipes = "flux-"
    defaults = Sampling(sampler="euler", steps=28, guidance=3.5, text_length=512)
    distilled = ("transformer/config.json", "guidance_embeds", False)  # schnell; dev is distilled of its guidance alone
    few_steps = {"steps": 4, "guidance": 1.0, "text_length": 256}  # noqa: RUF012
    lora_targets = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    )

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        return Canvas(
            channels=network.get("in_channels", 64) // 4,
            cells=128,
            scale=2 ** (len(autoencoder.get("block_out_channels", (64,))) - 1),
            patch=2,
        )

    @torch.no_grad()
    def encode_text(self, text: str) -> FluxConditioning:
        states, pooled, _ = self.pipeline.encode_prompt(
            [text], None, max_sequence_length=self.text_length, device=self.device
        )
        return FluxConditioning(states, pooled)

    def blank(self, rows: int) -> FluxConditioning:
        config = self.transformer.config
        states_NTD = torch.empty(rows, self.text_length, config.joint_attention_dim, dtype=self.dtype)
        return FluxConditioning(states_NTD, torch.empty(rows, config.pooled_projection_dim, dtype=self.dtype))

    def own_latents(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return pack(x_BCHW)

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: FluxConditioning,
        weights: Mapping[str, torch.Tensor] | None,
        scale: float = 1.0,
    ) -> torch.Tensor:
        embeds = self.transformer.config.guidance_embeds
        tokens, (height, width) = conditioning.states_NTD.shape[1], x_BCHW.shape[-2:]
        velocity = self.ask(
            weights,
            hidden_states=pack(x_BCHW.to(self.dtype)),
            timestep=sigma_B.to(self.dtype),
            guidance=torch.full_like(sigma_B, scale, dtype=torch.float32) if embeds else None,
            pooled_projections=conditioning.pooled_NP.to(self.dtype),
            encoder_hidden_states=conditioning.states_NTD.to(self.dtype),
            txt_ids=torch.zeros(tokens, 3, device=x_BCHW.device),
            img_ids=patch_places(height, width, x_BCHW.device),
        )
        return unpack(velocity, tuple(x_BCHW.shape)).float()
