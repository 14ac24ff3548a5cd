"""The Stable Diffusion 3 family (SD3, SD3.5, and the embedded model), through diffusers.

Shapes: N prompts, T tokens, D text width, P pooled width; B images, C, H, W of the latent.
"""

# Annotations in diffusers and transformers are narrower than what their functions take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOptionalOperand=false

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from torch.func import functional_call

from dgpo.config import Sampling
from dgpo.models.canvas import Canvas
from dgpo.models.folder import TRAINABLE, refuse_other_family
from dgpo.models.pretrained import load_pretrained, read_index
from dgpo.schedule import build_scheduler

ATTENTION_PROJECTIONS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is told of N prompts: token states [N, T, D] and a pooled vector [N, P]."""

    states_NTD: torch.Tensor
    pooled_NP: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Conditioning":
        return Conditioning(self.states_NTD[rows], self.pooled_NP[rows])

    def repeat_first(self, rows: int) -> "Conditioning":
        return Conditioning(self.states_NTD[:1].expand(rows, -1, -1), self.pooled_NP[:1].expand(rows, -1))


class SD3:
    """A loaded pipeline as the trainer and the harness see it: encode, predict velocities, decode."""

    FAMILY = TRAINABLE

    def __init__(self, pipeline: StableDiffusion3Pipeline, text_length: int):
        self.pipeline = pipeline
        self.text_length = text_length if pipeline.text_encoder_3 is not None else 0
        self.transformer = pipeline.transformer
        self.dtype = pipeline.transformer.dtype
        self.canvas = Canvas.of(pipeline.transformer.config, pipeline.vae.config)
        for frozen in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3):
            if frozen is not None:
                frozen.requires_grad_(False).eval()
        self.transformer.requires_grad_(False).eval()

    @classmethod
    def from_folder(cls, path: Path | str, *, dtype: torch.dtype, device: torch.device, text_length: int) -> "SD3":
        """Load a local diffusers folder or a hub id; a model published without T5 (`null` in its index) stays without.

        Raises:
            UsageError: it is a pipeline of another family.
            SetupError: its files cannot be loaded.
        """
        index = read_index(path)
        refuse_other_family(path, index)
        absent = {name: None for name, value in index.items() if value == [None, None]}
        absent = {name: None for name in absent if name in ("text_encoder_3", "tokenizer_3")}
        pipeline = load_pretrained(StableDiffusion3Pipeline, path, dtype=dtype, **absent)
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline.to(device), text_length)

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """Latent [C, H, W] of an image; without a size, the model's own. One that it cannot draw is a UsageError."""
        return self.canvas.latent_shape(height, width)

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width in pixels of an image; without one, the model's own."""
        return self.canvas.size(height, width)

    def scheduler(self, sampling: Sampling, shape: tuple[int, ...]):
        """The sampler's scheduler for latents [C, H, W], with this model's own times."""
        own = self.pipeline.scheduler
        config = {**own.config, "_class_name": type(own).__name__}
        return build_scheduler(sampling.sampler, config, sampling.steps, tokens=self.canvas.tokens(shape))

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Conditioning:
        """Each text once; an empty text is the unconditional one."""
        states, _, pooled, _ = self.pipeline.encode_prompt(
            texts,
            None,
            None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_length,
            device=self.device,
        )
        return Conditioning(states, pooled)

    def velocity(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Conditioning,
        weights: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """v(x_t, t, prompt), one conditioning row an image; `weights` replace the transformer's own in this call."""
        inputs = {
            "hidden_states": x_BCHW.to(self.dtype),
            "timestep": 1000 * sigma_B,
            "encoder_hidden_states": conditioning.states_NTD,
            "pooled_projections": conditioning.pooled_NP,
            "return_dict": False,
        }
        if weights is None:
            return self.transformer(**inputs)[0]
        return functional_call(self.transformer, weights, (), inputs)[0]

    @torch.no_grad()
    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image | str]:
        """Latents to 8-bit RGB images, rounded once; for numbers that are no colours, the reason in their place."""
        vae = self.pipeline.vae
        latents = latents_BCHW / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        pixels = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        drawn, decoded = finite_rows(latents_BCHW), finite_rows(pixels)
        arrays = to_uint8(pixels.nan_to_num()).permute(0, 2, 3, 1).cpu().numpy()
        return [
            Image.fromarray(array) if sound else not_finite("pixels" if latent else "latents", vae.dtype)
            for array, latent, sound in zip(arrays, drawn, decoded, strict=True)
        ]


def finite_rows(values: torch.Tensor) -> list[bool]:
    """For each of a batch whether all its numbers exist."""
    return torch.isfinite(values).flatten(1).all(dim=1).tolist()


def not_finite(what: str, dtype: torch.dtype) -> str:
    """Why there is no image."""
    precision = str(dtype).removeprefix("torch.")
    return f"the {what} are not finite (NaN or infinity, computed in {precision})"


def to_uint8(pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """Network pixels in [-1, 1] to 0..255, rounded to the nearest: the only place where pixels become integers."""
    return (pixels_BCHW.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
