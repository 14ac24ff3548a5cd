"""What a training will cost, from a few passes timed on the device it will run on; and what it has cost.

Seconds of one process throughout. An iteration is drawn and decoded in micro-batches, each scored while the next is
drawn, and learned from when the last is scored.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dgpo.algorithms.algorithm import find_algorithm
from dgpo.config import Config
from dgpo.models.attention import training_attention
from dgpo.models.model import Conditioning
from dgpo.plan import drawn_at_once, images_of_a_rank, learned_at_once, planned_passes
from dgpo.policy import Policy
from dgpo.rollout import draw_latents
from rewards.pool import ScoringPool
from rewards.prompt import Prompt

REPEATS = 3
SECONDS = 20.0
"""About how long measuring may take, once everything is loaded and warm."""
PARTS = 5


@dataclass(frozen=True)
class Measured:
    """Seconds per image: of one pass through the network where gradients are off, in drawing and in comparing; of a
    pass with its backward; of decoding; of scoring, by all workers together."""

    draw: float
    compare: float
    learn: float
    decode: float
    score: float
    images: int
    """That were timed together in drawing; fewer than will be drawn together where that would have taken too long."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of an iteration by what they are spent on, evaluations by their share of it; they add up to the whole."""

    draw: float
    decode: float
    score: float
    """In which nothing is done but wait for scores."""
    learn: float
    evaluate: float

    @property
    def parts(self) -> dict[str, float]:
        return {
            "drawing": self.draw,
            "decoding": self.decode,
            "waiting for scores": self.score,
            "learning": self.learn,
            "evaluating": self.evaluate,
        }

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def dominates(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])


def measure(policy: Policy, config: Config, prompts: Sequence[Prompt], pool: ScoringPool, processes: int) -> Measured:
    """Time each kind of pass on as many images as an iteration has together, or as the time allows.

    The policy's weights stay as they are; gradients are taken and thrown away.

    Args:
        pool: an open one, of the rewards trained on.
    """
    draws, learns = drawn_at_once(config, processes), learned_at_once(config, processes)
    passes = policy.model.passes(config.sampling.guidance)
    bench = _Bench(policy, config, prompts)
    drawing, drawn = bench.time(bench.draw, draws)
    comparing, _ = bench.time(bench.compare, learns)
    learning, _ = bench.time(bench.learn, learns)
    bench.finish(max(1, min(drawn, int(SECONDS / PARTS / (drawing * config.sampling.steps)))))
    decoding, decoded = bench.time(bench.decode, len(bench.latents))
    scoring, _ = bench.time(lambda images: bench.score(images, pool), decoded)
    return Measured(drawing / passes, comparing, learning / bench.learning_passes, decoding, scoring, drawn)


class _Bench:
    """A policy with inputs of the right shapes, whose numbers do not matter."""

    def __init__(self, policy: Policy, config: Config, prompts: Sequence[Prompt]) -> None:
        self.policy, self.config = policy, config
        needs = find_algorithm(config.algorithm).needs(config.learning)
        self.learning_guidance = config.sampling.guidance if needs.trajectory else None
        self.learning_passes = policy.model.passes(self.learning_guidance)
        self.prompts = list(prompts[:1])
        self.row = policy.model.encode([self.prompts[0].text])
        self.shape = policy.model.latent_shape(config.sampling.height, config.sampling.width)
        self.latents, self.pictures = self._noise(1), list[Any]()

    def time(self, work: Callable[[int], object], images: int) -> tuple[float, int]:
        """Seconds per image, and how many images at a time they were measured with."""
        work(1)  # what is made once, and caches that are cold
        fits = SECONDS / PARTS / (REPEATS + 1) / max(self._timed(work, 1), 1e-9)
        images = max(1, min(images, int(fits)))
        work(images)
        return min(self._timed(work, images) for _ in range(REPEATS)) / images, images

    def _timed(self, work: Callable[[int], object], images: int) -> float:
        self._finish()
        began = time.perf_counter()
        work(images)
        self._finish()
        return time.perf_counter() - began

    def _finish(self) -> None:
        if self.policy.model.device.type == "cuda":
            torch.cuda.synchronize()

    def draw(self, images: int) -> None:
        with torch.no_grad():
            self._velocity("current", images, self.config.sampling.guidance)

    def finish(self, images: int) -> None:
        """Whole pictures, since a reward may be done with noise at once."""
        sampling = self.config.sampling
        self.latents = draw_latents(self.policy, self._noise(images), self._rows(images), sampling, who="current")

    def compare(self, images: int) -> None:
        with torch.no_grad(), training_attention(self.policy.model.device):
            self._velocity("reference", images, None)

    def learn(self, images: int) -> None:
        with training_attention(self.policy.model.device):
            self._velocity("current", images, self.learning_guidance).square().mean().backward()
        for parameter in self.policy.parameters:
            parameter.grad = None

    def decode(self, images: int) -> None:
        self.pictures = [one for one in self.policy.model.decode(self.latents[:images]) if not isinstance(one, str)]

    def score(self, images: int, pool: ScoringPool) -> None:
        pictures = self.pictures[:images]
        pool.submit(pictures, self.prompts * len(pictures)).result()

    def _velocity(self, who: str, images: int, guidance: float | None) -> torch.Tensor:
        noise, rows = self._noise(images), self._rows(images)
        sigma = torch.full((images,), 0.7, device=noise.device)
        return self.policy.velocity(who, noise, sigma, rows, guidance=guidance, purpose="measured")

    def _rows(self, images: int) -> Conditioning:
        return self.row.take(torch.zeros(images, dtype=torch.int64, device=self.policy.model.device))

    def _noise(self, images: int) -> torch.Tensor:
        return torch.randn(images, *self.shape).to(self.policy.model.device)


def estimate(measured: Measured, config: Config, cost: Callable[[float], int], processes: int) -> Estimate:
    """An iteration of a training by these times.

    Args:
        cost: `Model.passes`.
    """
    images, together = images_of_a_rank(config, processes), drawn_at_once(config, processes)
    passes = planned_passes(config, cost)
    draw, decode = images * passes["rollout"] * measured.draw, images * measured.decode
    if config.source.kind == "recorded":
        draw = decode = 0.0
    # Each micro-batch is scored while the next is drawn: the last is waited for, and all that is behind by then.
    batches = -(-images // together)
    score_all = images * measured.score
    behind = score_all - (batches - 1) / batches * (draw + decode)
    again = passes["current"] - passes["backward"]
    others = sum(passes.get(name, 0) for name in passes if name not in ("rollout", "current", "backward", "recompute"))
    learn = images * (passes["backward"] * measured.learn + (again + others) * measured.compare)
    score = 0.0 if config.source.kind == "recorded" else max(score_all / batches, behind)
    return Estimate(draw, decode, score, learn, _evaluate(measured, config, cost, processes))


def _evaluate(measured: Measured, config: Config, cost: Callable[[float], int], processes: int) -> float:
    """The share of an iteration in the held-out evaluations; scored while they are drawn, by the same workers."""
    evaluation = config.evaluation
    if not evaluation.on:
        return 0.0
    steps = config.sampling.steps if evaluation.steps is None else evaluation.steps
    guidance = config.sampling.guidance if evaluation.guidance is None else evaluation.guidance
    images = -(-evaluation.prompts * evaluation.seeds // processes)
    drawn = steps * cost(guidance) * measured.draw + measured.decode
    return images * max(drawn, measured.score) / evaluation.every


def describe_estimate(measured: Measured, found: Estimate, config: Config, where: str, processes: int) -> list[str]:
    """In sentences: what was timed, what an iteration takes, and what the whole does."""
    together = drawn_at_once(config, processes)
    fewer = f" (timed with {measured.images} at a time, drawn {together})" if measured.images < together else ""
    shares = ", ".join(f"{name} {_brief(seconds)}" for name, seconds in found.parts.items() if seconds)
    hours = found.seconds * config.steps / 3600
    devices = f" on each of {processes} devices, {hours * processes:.3g} device hours" if processes > 1 else ""
    return [
        f"timed on {where}, per image{fewer}: a pass in drawing {_brief(measured.draw)}, in comparing "
        f"{_brief(measured.compare)}, with its backward {_brief(measured.learn)}; decoding {_brief(measured.decode)}, "
        f"scoring {_brief(measured.score)} (workers: {config.workers})",
        f"so an iteration takes about {_brief(found.seconds)}: {shares}; most of it is {found.dominates}",
        f"{config.steps} iterations take about "
        f"{f'{hours:.3g} hours' if hours >= 1 else f'{hours * 60:.3g} minutes'}{devices}",
    ]


def _brief(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def describe_spent(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the iterations of a run took, for its record: their number, hours, and mean seconds by part."""
    spent = [line["seconds"] for line in metrics if line.get("seconds")]
    if not spent:
        return {}
    totals = {part: sum(one.get(part, 0.0) for one in spent) for part in spent[0]}
    return {
        "iterations": len(spent),
        "hours": sum(totals.values()) / 3600,
        "seconds_per_iteration": {part: total / len(spent) for part, total in totals.items()},
    }
