"""Qwen-Image, through diffusers: texts read by Qwen2.5-VL, guidance brought back to the conditional's length.

Shapes: N prompts, T tokens, D text width; B images, C, H, W of the latent.
"""

from collections.abc import Mapping
from typing import Any

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.packing import pack, unpack
from dgpo.models.padded import PaddedConditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.paths import guide
from dgpo.sections import Sampling


class QwenImage(PipelineModel):
    pipeline_class = "QwenImagePipeline"
    summary = "Qwen-Image; classifier-free guidance that keeps lengths"
    recipes = "qwen-image-"
    empty_text = " "  # as its authors draw; a text of nothing is another one
    defaults = Sampling(sampler="euler", steps=50, guidance=4.0, text_length=1024)
    lora_targets = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        stages = autoencoder.get("temperal_downsample", (False, True, True))
        return Canvas(channels=network.get("in_channels", 64) // 4, cells=128, scale=2 ** len(stages), patch=2)

    @torch.no_grad()
    def encode_text(self, text: str) -> PaddedConditioning:
        states, _ = self.pipeline.encode_prompt([text], device=self.device, max_sequence_length=self.text_length)
        return PaddedConditioning.of(states)

    def blank(self, rows: int) -> PaddedConditioning:
        states_1TD = torch.empty(1, self.text_length, self.transformer.config.joint_attention_dim, dtype=self.dtype)
        return PaddedConditioning.of(states_1TD).first(rows)

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        """Each patch keeps the length of its conditional prediction."""
        guided = pack(guide(conditional, unconditional, guidance))
        length = pack(conditional).norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)
        return unpack(guided * length, tuple(conditional.shape))

    def own_latents(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return pack(x_BCHW)

    def own_arguments(self, texts: list[str], guidance: float) -> dict[str, Any]:
        against = {"negative_prompt": [self.empty_text] * len(texts)} if guidance > 1 else {}
        return {"prompt": texts, "true_cfg_scale": guidance, "max_sequence_length": self.text_length, **against}

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: PaddedConditioning,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        height, width = (side // 2 for side in x_BCHW.shape[-2:])
        velocity = self.ask(
            weights,
            hidden_states=pack(x_BCHW.to(self.dtype)),
            timestep=sigma_B.to(self.dtype),
            guidance=None,
            encoder_hidden_states=conditioning.states_NTD.to(self.dtype),
            encoder_hidden_states_mask=conditioning.mask_NT,
            img_shapes=[[(1, height, width)]] * len(x_BCHW),
        )
        return unpack(velocity, tuple(x_BCHW.shape)).float()

    def to_pixels(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        """By an autoencoder of videos, as one frame; each channel has its own mean and deviation."""
        mean, deviation = self._statistics(latents_BCHW)
        latents = latents_BCHW * deviation + mean
        vae = self.pipeline.vae
        return vae.decode(latents[:, :, None].to(vae.dtype), return_dict=False)[0][:, :, 0]

    def to_latents(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        latents = vae.encode(pixels_BCHW[:, :, None].to(vae.dtype)).latent_dist.mode()[:, :, 0].float()
        mean, deviation = self._statistics(latents)
        return (latents - mean) / deviation

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the autoencoder's channels, [C, 1, 1]."""
        config = self.pipeline.vae.config
        return tuple(
            torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]
            for values in (config.latents_mean, config.latents_std)
        )  # pyright: ignore[reportReturnType]
