"""A plain loop of the released method, to measure ours against: the same numbers by the obvious steps.

As in code that comes with papers: frozen weights are held in fp32 and cast in every call, every prompt is encoded once
for each of its images, the old policy's weights lie in host memory and are put in place and taken away again for each
use, nothing is scored before all is drawn. Mathematics that both sides share are called, not written again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from benchmarks.machines.stages import Stages
from dgpo.advantage import mix_rewards, standardise
from dgpo.algorithms.dgpo import choose_times, old_decay
from dgpo.algorithms.group_preference import group_margins, image_weights, preference_loss, unclipped
from dgpo.config import Config
from dgpo.models.attention import training_attention
from dgpo.models.model import Conditioning
from dgpo.models.pipeline_model import PipelineModel
from dgpo.noise import seeded_noise
from dgpo.policy import Policy
from dgpo.prompts import PromptStream
from dgpo.samplers import SAMPLERS
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.registry import card_of


class PlainLoop:
    """One process of DGPO on whole groups, from the same starting point as a trainer of this config."""

    def __init__(
        self, config: Config, policy: Policy, prompts: Sequence[Prompt], pool: ScoringPool, stages: Stages
    ) -> None:
        """
        Args:
            policy: with fresh adapters by the config's seed, its frozen weights in fp32.
        """
        self.config, self.policy, self.pool, self.stages = config, policy, pool, stages
        assert isinstance(policy.model, PipelineModel), "its texts can be encoded one by one"
        self.settings, self.model = config.learning, policy.model
        self.stream = PromptStream(prompts, config.seed)
        self.old = [parameter.detach().cpu().clone() for parameter in policy.parameters]
        self.updates = 0
        settings = config.optimizer
        self.adamw = torch.optim.AdamW(
            policy.parameters, settings.learning_rate, settings.betas, settings.epsilon, settings.weight_decay
        )
        self.x0_BCHW = torch.empty(0)
        """The latents of the latest iteration."""
        self.gradients: list[torch.Tensor] = []
        """Those of the first."""

    def iterate(self, step: int) -> None:
        """Draw, score, learn."""
        prompts = self.stream.take(step, self.config.groups)
        owners = [prompt for prompt in prompts for _ in range(self.config.group_size)]
        with self.stages.stage("text encoding"):
            rows = [self._encode(prompt.text) for prompt in owners]
            conditioning = type(rows[0]).join(rows)
        self.x0_BCHW = self._draw(owners, conditioning, step)
        with self.stages.stage("decoding"):
            images = [one for part in self._parts(self.x0_BCHW) for one in self.model.decode(part)]
        with self.stages.stage("scoring"):
            made = [image for image in images if not isinstance(image, str)]
            assert len(made) == len(images), "every picture is one"
            scored = self.pool.submit(made, owners).result().scores
        specs, config = self.pool.specs, self.config
        values = [[score.value for score in scored[spec.key]] for spec in specs]
        parts_RKG = torch.tensor(values, dtype=torch.float64).view(-1, config.groups, config.group_size)
        scales, weights = [card_of(spec).train_scale for spec in specs], [spec.train_weight for spec in specs]
        _, scores_KG = mix_rewards(parts_RKG, scales, weights, config.advantage)
        advantage = self.config.advantage
        advantage_KG = standardise(scores_KG, std=advantage.std, epsilon=advantage.epsilon, clamp=advantage.clamp)
        with self.stages.stage("learning"):
            self._learn(prompts, conditioning, advantage_KG, step)

    def _encode(self, text: str) -> Conditioning:
        with torch.no_grad(), self.model.reading():
            return self.model.encode_text(text).to(self.model.device)

    def _draw(self, owners: Sequence[Prompt], conditioning: Conditioning, step: int) -> torch.Tensor:
        sampling, latents = self.config.sampling, []
        shape = self.model.latent_shape(sampling.height, sampling.width)
        schedule = self.model.schedule(sampling, shape)
        numbers = torch.arange(len(owners), device=self.model.device)
        for chosen in self._parts(numbers):
            with self.stages.stage("noise"):
                named = [(owners[number].id, number) for number in chosen.tolist()]
                noise = torch.stack([seeded_noise(shape, "rollout", self.config.seed, step, *one) for one in named])
            with self.stages.stage("drawing"), torch.no_grad():
                part = conditioning.take(chosen)
                start = self.model.start(noise.to(self.model.device), schedule)
                latents.append(
                    SAMPLERS[sampling.sampler](
                        lambda x, sigma, part=part: self._velocity(x, sigma, part, sampling.guidance),
                        start,
                        schedule,
                        lambda *_: None,
                    )
                )
        return torch.cat(latents)

    def _learn(
        self, prompts: Sequence[Prompt], conditioning: Conditioning, advantage_KG: torch.Tensor, step: int
    ) -> None:
        config, size = self.config, self.config.group_size
        shape = tuple(self.x0_BCHW.shape[1:])
        times = choose_times(self.model.schedule(config.sampling, shape).times, self.settings, config.seed, step)
        live = advantage_KG.ne(0).any(dim=1).nonzero().flatten().tolist()
        together = max(1, config.optimizer.micro_batch // size)
        for place, sigma in enumerate(times):
            for start in range(0, len(live), together):
                groups = live[start : start + together]
                rows = torch.tensor([k * size + i for k in groups for i in range(size)], device=self.model.device)
                with self.stages.stage("noise"):
                    kinds = [
                        seeded_noise(shape, "time", config.seed, step, place, prompts[k].id, k)
                        for k in groups
                        for _ in range(size)
                    ]
                    noise = torch.stack(kinds).to(self.x0_BCHW)
                self._accumulate(rows, noise, sigma, conditioning.take(rows), advantage_KG, len(times))
        with self.stages.stage("update"):
            self._update()

    def _accumulate(
        self,
        rows: torch.Tensor,
        noise: torch.Tensor,
        sigma: float,
        conditioning: Conditioning,
        advantage_KG: torch.Tensor,
        times: int,
    ) -> None:
        settings, path, x0 = self.settings, self.model.path, self.x0_BCHW[rows]
        x = path.add_noise(x0, noise, sigma)
        sigma_B = torch.full((len(rows),), sigma, device=x.device)
        group_B = rows // self.config.group_size
        advantage_B = advantage_KG.to(x.device).flatten()[rows]
        with training_attention(x.device):
            with torch.no_grad():
                with self._without_adapters():
                    reference = self._velocity(x, sigma_B, conditioning, None)
                if settings.clip is not None:
                    with self._old_in_place():
                        old_error = path.error(self._velocity(x, sigma_B, conditioning, None), x0, noise)
            velocity = self._velocity(x, sigma_B, conditioning, None)
            error, images = path.error(velocity, x0, noise), self.config.images
            margin_K = group_margins(
                error,
                path.error(reference, x0, noise),
                advantage_B,
                group_B,
                groups=self.config.groups,
                group_size=self.config.group_size,
                beta=settings.beta,
                sum_over_ranks=lambda margins: margins,
            )
            weight_B = image_weights(margin_K, advantage_B, group_B)
            if settings.clip is not None:
                weight_B = weight_B * unclipped(error, old_error, advantage_B, settings.clip)
            drift_B = (velocity - reference).square().flatten(1).mean(dim=1)
            loss = preference_loss(error, weight_B, images) + settings.kl * drift_B.sum() / images
            (loss / times).backward()

    def _update(self) -> None:
        settings = self.config.optimizer
        self.gradients = self.gradients or copy_gradients(self.policy)
        torch.nn.utils.clip_grad_norm_(self.policy.parameters, settings.max_norm)
        rise = min(1.0, (self.updates + 1) / settings.warm_up) if settings.warm_up else 1.0
        for group in self.adamw.param_groups:
            group["lr"] = settings.learning_rate * rise
        self.adamw.step()
        self.adamw.zero_grad()
        decay = old_decay(self.settings, self.updates)
        for old, parameter in zip(self.old, self.policy.parameters, strict=True):
            old.lerp_(parameter.detach().cpu(), 1 - decay)
        self.updates += 1

    def _velocity(
        self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, conditioning: Conditioning, guidance: float | None
    ) -> torch.Tensor:
        dtype = self.policy.dtype
        with torch.autocast(x_BCHW.device.type, dtype, enabled=dtype != torch.float32):
            return self.model.velocity(x_BCHW, sigma_B, conditioning, guidance=guidance)

    @contextmanager
    def _without_adapters(self) -> Iterator[None]:
        self.model.transformer.disable_adapters()
        yield
        self.model.transformer.enable_adapters()

    @contextmanager
    def _old_in_place(self) -> Iterator[None]:
        """Through host memory, there and back, as the released loop does for every use."""
        kept = [parameter.detach().cpu().clone() for parameter in self.policy.parameters]
        self._put(self.old)
        yield
        self._put(kept)

    @torch.no_grad()
    def _put(self, weights: Sequence[torch.Tensor]) -> None:
        for parameter, tensor in zip(self.policy.parameters, weights, strict=True):
            parameter.copy_(tensor)

    def _parts(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return rows.split(self.config.rollout.micro_batch)


def copy_gradients(policy: Policy) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in policy.parameters]
