"""SANA, through diffusers: few, wide cells; prompts behind an instruction that the empty text goes without.

Shapes: N prompts, T tokens, D text width; B images, C, H, W of the latent.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.model import Conditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.schedule import Schedule, build_schedule
from dgpo.sections import Sampling


@dataclass(frozen=True)
class SanaConditioning(Conditioning):
    """Token states [N, T, D], and which of them are of the prompt [N, T]."""

    states_NTD: torch.Tensor
    mask_NT: torch.Tensor


class Sana(PipelineModel):
    pipeline_class = "SanaPipeline"
    summary = "SANA; classifier-free guidance"
    recipes = "sana-"
    defaults = Sampling(sampler="dpm++", steps=20, guidance=4.5, text_length=300)
    lora_targets = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q", "attn2.to_k", "attn2.to_v")

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        widths = autoencoder.get("encoder_block_out_channels", (128, 256, 512, 512, 1024, 1024))
        return Canvas(
            channels=network.get("in_channels", 32),
            cells=network.get("sample_size", 32),
            scale=2 ** (len(widths) - 1),
            patch=network.get("patch_size", 1),
        )

    @classmethod
    def times(cls, sampling: Sampling, config: Mapping[str, Any], canvas: Canvas, shape: tuple[int, ...]) -> Schedule:
        """The scheduler makes its own table, whose shift no image moves."""
        return build_schedule(sampling.sampler, config, sampling.steps)

    def encode_text(self, text: str) -> SanaConditioning:
        instruction = inspect.signature(type(self.pipeline).__call__).parameters["complex_human_instruction"].default
        return self._encode(text, instruction)

    def encode_empty(self) -> SanaConditioning:
        return self._encode(self.empty_text, None)

    @torch.no_grad()
    def _encode(self, text: str, instruction: list[str] | None) -> SanaConditioning:
        states, mask, _, _ = self.pipeline.encode_prompt(
            [text],
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.text_length,
            complex_human_instruction=instruction,
        )
        return SanaConditioning(states, mask)

    def blank(self, rows: int) -> SanaConditioning:
        states_NTD = torch.empty(rows, self.text_length, self.transformer.config.caption_channels, dtype=self.dtype)
        return SanaConditioning(states_NTD, torch.empty(rows, self.text_length, dtype=torch.int64))

    def own_arguments(self, texts: list[str], guidance: float) -> dict[str, Any]:
        """At the very size that is asked for, not at one of its list."""
        return {**super().own_arguments(texts, guidance), "use_resolution_binning": False}

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: SanaConditioning,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        predicted = self.ask(
            weights,
            hidden_states=x_BCHW.to(self.dtype),
            encoder_hidden_states=conditioning.states_NTD.to(self.dtype),
            encoder_attention_mask=conditioning.mask_NT,
            timestep=1000 * sigma_B * self.transformer.config.timestep_scale,
        )
        return predicted[:, : x_BCHW.shape[1]].float()  # some predict a variance too

    def to_pixels(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        return vae.decode((latents_BCHW / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]

    def to_latents(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        return vae.encode(pixels_BCHW.to(vae.dtype), return_dict=False)[0].float() * vae.config.scaling_factor
