"""Stable Diffusion XL, through diffusers: a network that predicts noise, seen as a rectified flow.

Its own path is x = alpha x0 + s eps. Divided by alpha + s that is the straight line (1 - sigma) x0 + sigma eps with
sigma = k / (1 + k), k = s / alpha; so the velocity eps - x0 follows from the predicted eps, Euler's steps are its own
sampler's to rounding, and a bound on sigma is one on the log signal-to-noise ratio, -2 ln k. The error in v is that in
eps times 1 + k. Shapes: N prompts, T tokens, D text width, P pooled width; B images, C, H, W of the latent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from dgpo.models.canvas import Canvas
from dgpo.models.model import Conditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.schedule import CONFIG, Schedule
from dgpo.sections import Sampling
from rewards.errors import UsageError

SCHEDULER = "EulerDiscreteScheduler"


@dataclass(frozen=True)
class SDXLConditioning(Conditioning):
    """Token states [N, T, D] of both encoders and a pooled vector [N, P]."""

    states_NTD: torch.Tensor
    pooled_NP: torch.Tensor


class SDXL(PipelineModel):
    pipeline_class = "StableDiffusionXLPipeline"
    summary = "Stable Diffusion XL, which predicts noise; classifier-free guidance, no noise on the way"
    recipes = "sdxl-"
    network = "unet"
    stochastic = False
    config_files = ("unet/config.json", "vae/config.json", CONFIG)
    defaults = Sampling(sampler="euler", steps=50, guidance=5.0, text_length=77)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")

    def __init__(self, pipeline: Any, text_length: int):
        super().__init__(pipeline, text_length)
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
            pipeline.vae.float()  # its activations overflow
        self.noise_levels = _noise_levels(pipeline.scheduler)

    @classmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        return Canvas(
            channels=network.get("in_channels", 4),
            cells=network.get("sample_size", 128),
            scale=2 ** (len(autoencoder.get("block_out_channels", (64,))) - 1),
            patch=1,
        )

    @classmethod
    def times(cls, sampling: Sampling, config: Mapping[str, Any], canvas: Canvas, shape: tuple[int, ...]) -> Schedule:
        """Those of the model's own Euler scheduler, as noise levels of the flow."""
        scheduler = _scheduler(config)
        if sampling.sampler == "dpm++":
            raise UsageError("sampling.sampler is dpm++, which is for rectified flows; this model takes euler or dpm2.")
        scheduler.set_timesteps(sampling.steps)
        sigmas = (scheduler.sigmas / (1 + scheduler.sigmas)).float()
        # Asked for at the noise level itself, which `predict` turns into the network's number of the time.
        solver = SimpleNamespace(
            sigmas=sigmas,
            timesteps=sigmas[:-1] * scheduler.config["num_train_timesteps"],
            config=SimpleNamespace(num_train_timesteps=scheduler.config["num_train_timesteps"]),
            start=float(scheduler.init_noise_sigma / (1 + scheduler.sigmas.max())),
        )
        return Schedule(sigmas[:-1].tolist(), solver)

    def start(self, noise_BCHW: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """As its pipeline scales noise for the first time, which is not quite noise yet."""
        return noise_BCHW * schedule.solver.start

    @torch.no_grad()
    def encode_text(self, text: str) -> SDXLConditioning:
        states, _, pooled, _ = self.pipeline.encode_prompt(
            [text], device=self.device, do_classifier_free_guidance=False
        )
        return SDXLConditioning(states, pooled)

    def blank(self, rows: int) -> SDXLConditioning:
        config = self.transformer.config
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        states_NTD = torch.empty(rows, self.text_length, config.cross_attention_dim, dtype=self.dtype)
        return SDXLConditioning(states_NTD, torch.empty(rows, pooled, dtype=self.dtype))

    def encode_empty(self) -> SDXLConditioning:
        """Zeros, where the model says so."""
        empty = self.encode_text(self.empty_text)
        if not self.pipeline.config.force_zeros_for_empty_prompt:
            return empty
        return SDXLConditioning(torch.zeros_like(empty.states_NTD), torch.zeros_like(empty.pooled_NP))

    def own_times(self, scheduler: Any) -> torch.Tensor:
        return (scheduler.sigmas / (1 + scheduler.sigmas))[:-1]

    def own_arguments(self, texts: list[str], guidance: float) -> dict[str, Any]:
        return {"prompt": texts, "guidance_scale": guidance}

    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: SDXLConditioning,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        level = (sigma_B.double() / (1 - sigma_B.double())).float()
        k = level[:, None, None, None]
        noisy = x_BCHW * (1 + k)  # x0 + k eps
        height, width = (side * self.canvas.scale for side in x_BCHW.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], device=x_BCHW.device, dtype=self.dtype)
        eps = self.ask(
            weights,
            sample=(noisy / (k.square() + 1).sqrt()).to(self.dtype),
            timestep=self._number_of(level),
            encoder_hidden_states=conditioning.states_NTD.to(self.dtype),
            added_cond_kwargs={
                "text_embeds": conditioning.pooled_NP.to(self.dtype),
                "time_ids": sizes.expand(len(x_BCHW), -1),
            },
        ).float()
        return eps - (noisy - k * eps)

    def _number_of(self, level_B: torch.Tensor) -> torch.Tensor:
        """The network's time of a noise level k, of which each number has one; between two it is a part of one."""
        levels, level = self.noise_levels.to(level_B.device), level_B.double()
        above = torch.searchsorted(levels, level).clamp(1, len(levels) - 1)
        below = levels[above - 1]
        numbers = (above - 1 + (level - below) / (levels[above] - below)).clamp(0, len(levels) - 1)
        whole = numbers.round()
        return torch.where((numbers - whole).abs() < 1e-2, whole, numbers).float()  # rounding in fp32 has moved some


def _scheduler(config: Mapping[str, Any]) -> Any:
    import diffusers

    name = config.get("_class_name", SCHEDULER)
    if name != SCHEDULER or config.get("prediction_type", "epsilon") != "epsilon":
        raise UsageError(
            f"The model's scheduler is a {name} with the prediction_type {config.get('prediction_type', 'epsilon')}; "
            f"this family is followed by the {SCHEDULER} of a network that predicts epsilon. Put it into {CONFIG} and "
            "model_index.json."
        )
    return diffusers.EulerDiscreteScheduler.from_config({k: v for k, v in config.items() if not k.startswith("_")})


def _noise_levels(scheduler: Any) -> torch.Tensor:
    """k of each number of a time, smallest first."""
    kept = scheduler.alphas_cumprod.double()
    return ((1 - kept) / kept).sqrt()
