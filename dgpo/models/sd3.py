"""The Stable Diffusion 3 family (SD3, SD3.5, and the embedded model), through diffusers.

Shapes: N prompts, T tokens, D text width, P pooled width; B images, C, H, W of the latent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.dynamic_shift import TokenShift
from dgpo.models.model import Conditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.paths import guide
from dgpo.schedule import Schedule, build_schedule
from dgpo.sections import Sampling


@dataclass(frozen=True)
class SD3Conditioning(Conditioning):
    """Token states [N, T, D] and a pooled vector [N, P]."""

    states_NTD: torch.Tensor
    pooled_NP: torch.Tensor


class SD3(PipelineModel):
    """A model published without T5 (`null` in its index) stays without."""

    pipeline_class = "StableDiffusion3Pipeline"
    summary = "Stable Diffusion 3 and 3.5, and the embedded model; classifier-free guidance"
    recipes = ""
    proved = "every check of the kit on a tiny random folder; trained and evaluated at full size: the embedded model"
    optional_parts = ("text_encoder_3", "tokenizer_3")
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

    def __init__(self, pipeline: Any, text_length: int):
        super().__init__(pipeline, text_length if pipeline.text_encoder_3 is not None else 0)

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        return Canvas(
            channels=network.get("in_channels", 16),
            cells=network.get("sample_size", 128),
            scale=2 ** (len(autoencoder.get("block_out_channels", (64,))) - 1),
            patch=network.get("patch_size", 2),
            largest=network.get("pos_embed_max_size", 96),
        )

    @classmethod
    def times(cls, sampling: Sampling, config: Mapping[str, Any], canvas: Canvas, shape: tuple[int, ...]) -> Schedule:
        """The scheduler makes its own table, which the pipeline leaves to it."""
        shift = TokenShift(canvas.tokens(shape))
        return build_schedule(sampling.sampler, config, sampling.steps, dynamic_shift=shift)

    @torch.no_grad()
    def encode_text(self, text: str) -> SD3Conditioning:
        states, _, pooled, _ = self.pipeline.encode_prompt(
            [text],
            None,
            None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_length,
            device=self.device,
        )
        return SD3Conditioning(states, pooled)

    def blank(self, rows: int) -> SD3Conditioning:
        config, clip = self.transformer.config, self.pipeline.tokenizer_max_length
        states_NTD = torch.empty(rows, clip + self.text_length, config.joint_attention_dim, dtype=self.dtype)
        return SD3Conditioning(states_NTD, torch.empty(rows, config.pooled_projection_dim, dtype=self.dtype))

    def velocity(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: SD3Conditioning,
        *,
        guidance: float | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """v(x_t, t, prompt); with guidance above 1 in one call of twice the rows."""
        if guidance is None or guidance == 1.0:
            return self.predict(x_BCHW, sigma_B, conditioning, weights)
        both = SD3Conditioning.join([conditioning, self.empty.first(len(x_BCHW))])
        velocity = self.predict(torch.cat([x_BCHW, x_BCHW]), torch.cat([sigma_B, sigma_B]), both, weights)
        conditional, unconditional = velocity.chunk(2)
        return guide(conditional, unconditional, guidance)

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: SD3Conditioning,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        velocity = self.ask(
            weights,
            hidden_states=x_BCHW.to(self.dtype),
            timestep=1000 * sigma_B,
            encoder_hidden_states=conditioning.states_NTD.to(self.dtype),
            pooled_projections=conditioning.pooled_NP.to(self.dtype),
        )
        return velocity.float()
