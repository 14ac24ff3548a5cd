"""The Stable Diffusion 3 family (SD3, SD3.5, and the embedded model), through diffusers.

Shapes: N prompts, T tokens, D text width, P pooled width; B images, C, H, W of the latent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from torch.func import functional_call

from dgpo.models.canvas import Canvas
from dgpo.models.decoded import finite_rows, not_finite, to_uint8
from dgpo.models.dynamic_shift import TokenShift
from dgpo.models.model import Conditioning, Model, ReadConfig
from dgpo.models.pretrained import component_precisions, load_pretrained, read_index
from dgpo.paths import RectifiedFlow, guide
from dgpo.schedule import CONFIG, Schedule, build_schedule
from dgpo.sections import Sampling


@dataclass(frozen=True)
class SD3Conditioning(Conditioning):
    """Token states [N, T, D] and a pooled vector [N, P]."""

    states_NTD: torch.Tensor
    pooled_NP: torch.Tensor


class SD3(Model):
    """A loaded pipeline as the trainer and the harness see it: encode, predict velocities, decode."""

    path = RectifiedFlow()
    # As the published models are evaluated by the released code of DGPO.
    defaults = Sampling(sampler="dpm++", steps=14, guidance=4.5, height=512, width=512, text_length=128)
    # The joint attention's projections, those of the text among them.
    lora_targets = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
    )
    config_files = ("transformer/config.json", "vae/config.json", CONFIG)

    def __init__(self, pipeline: Any, text_length: int):
        self.pipeline = pipeline
        self.text_length = text_length if pipeline.text_encoder_3 is not None else 0
        self.transformer = pipeline.transformer
        self.canvas = Canvas.of(pipeline.transformer.config, pipeline.vae.config)
        for frozen in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3):
            if frozen is not None:
                frozen.requires_grad_(False).eval()
        self.transformer.requires_grad_(False).eval()
        self.empty = self.encode([""])

    @classmethod
    def load(cls, place: Path | str, *, dtype: torch.dtype, device: torch.device, text_length: int) -> Self:
        """A local diffusers folder or a hub id; a model published without T5 (`null` in its index) stays without."""
        index = read_index(place)
        absent = {name: None for name, value in index.items() if value == [None, None]}
        absent = {name: None for name in absent if name in ("text_encoder_3", "tokenizer_3")}
        pipeline = load_pretrained(StableDiffusion3Pipeline, place, dtype=dtype, **absent)
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline.to(device), text_length)

    @classmethod
    def preview(cls, read: ReadConfig, sampling: Sampling) -> list[float]:
        """From the configs of transformer, autoencoder and scheduler."""
        transformer, autoencoder, scheduler = (read(file) for file in cls.config_files)
        canvas = Canvas.of(transformer, autoencoder)
        shape = canvas.latent_shape(sampling.height, sampling.width)
        return _schedule(sampling, scheduler, canvas, shape).times

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        """In which the transformer's weights are held."""
        return self.transformer.dtype

    @property
    def precisions(self) -> Mapping[str, str]:
        return component_precisions(self.pipeline)

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        return self.canvas.latent_shape(height, width)

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        return self.canvas.size(height, width)

    def schedule(self, sampling: Sampling, shape: tuple[int, ...]) -> Schedule:
        own = self.pipeline.scheduler
        config = {**own.config, "_class_name": type(own).__name__}
        return _schedule(sampling, config, self.canvas, shape)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> SD3Conditioning:
        states, _, pooled, _ = self.pipeline.encode_prompt(
            texts,
            None,
            None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_length,
            device=self.device,
        )
        return SD3Conditioning(states, pooled)

    def velocity(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: SD3Conditioning,
        *,
        guidance: float = 1.0,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """v(x_t, t, prompt); with guidance above 1 in one call of twice the rows."""
        if guidance == 1.0:
            return self._predict(x_BCHW, sigma_B, conditioning, weights)
        both = conditioning.join(self.empty.first(len(x_BCHW)))
        velocity = self._predict(torch.cat([x_BCHW, x_BCHW]), torch.cat([sigma_B, sigma_B]), both, weights)
        conditional, unconditional = velocity.chunk(2)
        return guide(conditional, unconditional, guidance)

    def _predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: SD3Conditioning,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        inputs = {
            "hidden_states": x_BCHW.to(self.dtype),
            "timestep": 1000 * sigma_B,
            "encoder_hidden_states": conditioning.states_NTD.to(self.dtype),
            "pooled_projections": conditioning.pooled_NP.to(self.dtype),
            "return_dict": False,
        }
        if weights is None:
            return self.transformer(**inputs)[0].float()
        return functional_call(self.transformer, dict(weights), (), inputs)[0].float()

    @torch.no_grad()
    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image | str]:
        vae = self.pipeline.vae
        latents = latents_BCHW / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        pixels = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        drawn, decoded = finite_rows(latents_BCHW), finite_rows(pixels)
        arrays = to_uint8(pixels.nan_to_num()).permute(0, 2, 3, 1).cpu().numpy()
        no_pixels, no_latents = not_finite("pixels", vae.dtype), not_finite("latents", self.dtype)
        return [
            Image.fromarray(array) if sound else no_pixels if latent else no_latents
            for array, latent, sound in zip(arrays, drawn, decoded, strict=True)
        ]

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        vae = self.pipeline.vae
        arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
        pixels = torch.from_numpy(arrays).to(vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
        return (latents.float() - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def save_lora(self, folder: Path, weights: Mapping[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        layers: dict[str, Any] = dict(weights)
        StableDiffusion3Pipeline.save_lora_weights(
            folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=metadata
        )


def _schedule(sampling: Sampling, config: Mapping[str, Any], canvas: Canvas, shape: tuple[int, ...]) -> Schedule:
    """By the scheduler's config, whose shift may grow with the patches of a latent."""
    shift = TokenShift(canvas.tokens(shape))
    return build_schedule(sampling.sampler, config, sampling.steps, dynamic_shift=shift)
