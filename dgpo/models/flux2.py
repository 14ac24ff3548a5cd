"""What both kinds of FLUX.2 are, through diffusers: layers of a language model as text, patches of a normalised latent
as channels.

Shapes: N prompts, T tokens, D text width; B images, C, H, W of the latent: four cells of the autoencoder are one here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.model import Conditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.schedule import Schedule, build_schedule
from dgpo.sections import Sampling


@dataclass(frozen=True)
class Flux2Conditioning(Conditioning):
    """The states of three layers side by side, [N, T, D]; what pads them is read too."""

    states_NTD: torch.Tensor


@dataclass(frozen=True)
class FittedShift:
    """FLUX.2's mu: fitted to the number of patches and of steps."""

    tokens: int
    steps: int
    reads: ClassVar[Mapping[str, float]] = {}

    def mu(self, config: Mapping[str, Any]) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        return compute_empirical_mu(self.tokens, self.steps)


class Flux2(PipelineModel):
    """The network, its times and its latents; how it is guided is the families'."""

    lora_targets = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.to_qkv_mlp_proj")

    def __init__(self, pipeline: Any, text_length: int):
        super().__init__(pipeline, text_length)
        # Of a single block `attn.to_out` is a layer, of a double one a list with a layer in it.
        single = range(len(self.transformer.single_transformer_blocks))
        self.lora_targets += tuple(f"single_transformer_blocks.{number}.attn.to_out" for number in single)

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        stages = len(autoencoder.get("block_out_channels", (128, 256, 512, 512)))
        return Canvas(channels=network.get("in_channels", 128), cells=64, scale=2**stages, patch=1)

    @classmethod
    def times(cls, sampling: Sampling, config: Mapping[str, Any], canvas: Canvas, shape: tuple[int, ...]) -> Schedule:
        even = [1 - step / sampling.steps for step in range(sampling.steps)]
        shift = FittedShift(canvas.tokens(shape), sampling.steps)
        return build_schedule(sampling.sampler, config, sampling.steps, dynamic_shift=shift, sigmas=even)

    @torch.no_grad()
    def encode_text(self, text: str) -> Flux2Conditioning:
        states, _ = self.pipeline.encode_prompt([text], device=self.device, max_sequence_length=self.text_length)
        return Flux2Conditioning(states)

    def blank(self, rows: int) -> Flux2Conditioning:
        width = self.transformer.config.joint_attention_dim
        return Flux2Conditioning(torch.empty(rows, self.text_length, width, dtype=self.dtype))

    def own_latents(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.flatten(2).transpose(1, 2)

    def own_noise(self, noise_BCHW: torch.Tensor) -> torch.Tensor:
        return noise_BCHW

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Flux2Conditioning,
        weights: Mapping[str, torch.Tensor] | None,
        scale: float | None = None,
    ) -> torch.Tensor:
        """Told the guidance, if it takes one."""
        states = conditioning.states_NTD.to(self.dtype)
        velocity = self.ask(
            weights,
            hidden_states=x_BCHW.to(self.dtype).flatten(2).transpose(1, 2),
            timestep=sigma_B.to(self.dtype),
            guidance=None if scale is None else torch.full_like(sigma_B, scale, dtype=torch.float32),
            encoder_hidden_states=states,
            txt_ids=_places(1, 1, 1, states.shape[1], device=x_BCHW.device),
            img_ids=_places(1, *x_BCHW.shape[-2:], 1, device=x_BCHW.device),
        )
        return velocity.transpose(1, 2).reshape(x_BCHW.shape).float()

    def to_pixels(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics()
        vae = self.pipeline.vae
        return vae.decode(_apart(latents_BCHW * deviation + mean).to(vae.dtype), return_dict=False)[0]

    def to_latents(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics()
        vae = self.pipeline.vae
        return (_together(vae.encode(pixels_BCHW.to(vae.dtype)).latent_dist.mode().float()) - mean) / deviation

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the channels, [C, 1, 1], as the autoencoder's batch norm has seen them."""
        vae = self.pipeline.vae
        deviation = (vae.bn.running_var.float() + vae.config.batch_norm_eps).sqrt()
        return vae.bn.running_mean.float()[:, None, None], deviation[:, None, None]


def _places(*sizes: int, device: torch.device) -> torch.Tensor:
    """FLUX.2's ids of tokens, [tokens, 4]: picture, row, column, and place in a text."""
    return torch.cartesian_prod(*(torch.arange(size, device=device) for size in sizes))


def _together(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Two cells a side into one: [B, C, H, W] to [B, 4 C, H/2, W/2]."""
    return torch.nn.functional.pixel_unshuffle(x_BCHW, 2)


def _apart(x_BCHW: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pixel_shuffle(x_BCHW, 2)
