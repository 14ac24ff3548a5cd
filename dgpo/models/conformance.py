"""Whether a model of a family is drawn, learned and saved here as its own pipeline has it: `python -m
dgpo.models.conformance FOLDER`.

Every family passes all checks on a tiny random folder in its published layout (tests); this runs them on any folder,
with the model's own weights, in fp32 on the CPU.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from dgpo.checkpoint import publish_weights
from dgpo.models.families import family_of
from dgpo.models.find import find_model
from dgpo.models.model import Model
from dgpo.models.pipeline_model import PipelineModel
from dgpo.models.pretrained import read_index, read_part
from dgpo.noise import seeded_noise
from dgpo.policy import Policy
from dgpo.rollout import draw_latents
from dgpo.sections import Sampling, Training
from rewards.errors import DgpoError, UsageError
from rewards.exits import DONE, GATE_FAILED
from rewards.prompt import Prompt

TEXTS = ('a blue sign that says "basket"', "a sign")
STEPS = 3
SMALLEST = 64  # pixels a side; networks of several stages need some
LATENTS = 1e-5
"""Largest difference of latents, of their largest number where that is above 1."""
HEARD = 1e-6
"""Smallest difference of what depends on something."""
RANK = 4


@dataclass(frozen=True)
class Finding:
    """What one check measured: the largest difference, and how large it may be."""

    name: str
    difference: float
    bound: float
    detail: str = ""

    @property
    def holds(self) -> bool:
        return self.difference <= self.bound

    def __str__(self) -> str:
        verdict, detail = "holds" if self.holds else "FAILS", self.detail and f"; {self.detail}"
        return f"{verdict}  {self.name}: {self.difference:.2g} of at most {self.bound:.2g}{detail}"


@dataclass(frozen=True)
class Subject:
    """A loaded model and the texts that it is tried with."""

    folder: Path
    model: PipelineModel
    texts: tuple[str, ...] = TEXTS

    @classmethod
    def of(cls, folder: Path, text_length: int | None = None) -> Self:
        """The model of a folder, with tokens as the family has them or fewer.

        Raises:
            UsageError: it is of no family with a pipeline to compare with.
        """
        family = family_of(folder, read_index(folder))
        if not issubclass(family, PipelineModel):
            raise UsageError(f"{folder} is of a family without a pipeline of diffusers to compare with.")
        length = family.defaults.text_length if text_length is None else text_length
        return cls(folder, _load(family, folder, length))

    def another(self) -> PipelineModel:
        """The same model loaded once more, which may be changed."""
        return _load(type(self.model), self.folder, self.model.text_length)

    @property
    def guidances(self) -> list[float]:
        distilled = self.model.is_distilled(lambda file: read_part(self.folder, file))
        return [1.0] if distilled else [1.0, 3.5]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Two of different shape and number of patches."""
        unit = self.model.canvas.patch * self.model.canvas.scale
        side = -(-SMALLEST // unit) * unit
        return [(side, 2 * side), (2 * side, 2 * side)]

    @property
    def samplings(self) -> Iterator[Sampling]:
        """Every size at every guidance, by the solver that the pipeline draws with."""
        solver = type(self.model.pipeline.scheduler).__name__
        sampler = "dpm++" if solver == "DPMSolverMultistepScheduler" else "euler"
        for height, width in self.sizes:
            for guidance in self.guidances:
                yield Sampling(sampler=sampler, steps=STEPS, guidance=guidance, height=height, width=width)

    def noise(self, sampling: Sampling) -> torch.Tensor:
        shape = self.model.latent_shape(sampling.height, sampling.width)
        return torch.stack([seeded_noise(shape, "conformance", text) for text in self.texts])

    def draw(self, policy: Policy, sampling: Sampling) -> torch.Tensor:
        """Our latents of all texts."""
        policy.model.scale = sampling.guidance
        conditioning = policy.model.encode(list(self.texts))
        return draw_latents(policy, self.noise(sampling), conditioning, sampling, who="current")

    def draw_theirs(self, pipeline: Any, sampling: Sampling, **more: Any) -> Any:
        """What the pipeline itself draws from the same noise; latents as it holds them, unless told otherwise."""
        arguments = {
            **self.model.own_arguments(list(self.texts), sampling.guidance), "num_inference_steps": sampling.steps,
            "height": sampling.height, "width": sampling.width, "output_type": "latent",
            "latents": self.model.own_noise(self.noise(sampling)),
        }  # fmt: skip
        seen: list[torch.Tensor] = []

        def look(_pipeline: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append(tensors["latents"])
            return {}

        drawn = pipeline(**{**arguments, "callback_on_step_end": look, "return_dict": False, **more})[0]
        return drawn if more else seen[-1]


def check_rollout(subject: Subject) -> Iterator[Finding]:
    """Our rollout is the pipeline's own, at two sizes and with and without guidance; a batch is its prompts alone."""
    model, worst, drawn = subject.model, 0.0, []
    policy = untrained(model)
    for sampling in subject.samplings:
        drawn.append(subject.draw(policy, sampling))
        worst = max(worst, apart(model.own_latents(drawn[-1]), subject.draw_theirs(model.pipeline, sampling)))
    yield Finding("rollout", worst, LATENTS, f"latents of about {drawn[-1].std():.2g}")
    alone = torch.cat([replace(subject, texts=(text,)).draw(policy, sampling) for text in subject.texts])
    yield Finding("a batch is its prompts", apart(alone, drawn[-1]), LATENTS)
    told, swapped = (model.encode(list(texts)) for texts in (subject.texts, subject.texts[::-1]))
    half = torch.full((len(alone),), 0.5)
    with torch.no_grad():
        heard = furthest(*(model.velocity(alone, half, conditioning) for conditioning in (told, swapped)))
    yield Finding("prompts that are not told apart", float(heard < HEARD), 0)
    if len(subject.guidances) > 1:
        yield Finding("guidance that is not heard", float(furthest(drawn[-2], drawn[-1]) < HEARD), 0)


def check_path(subject: Subject) -> Iterator[Finding]:
    """From a noised image one step along the target leads back to it, and a target has no error."""
    path, shape = subject.model.path, subject.model.latent_shape(*subject.sizes[0])
    x0, noise = (seeded_noise((2, *shape), what) for what in ("image", "noise"))
    off = 0.0
    for sigma in (0.25, 0.75):
        x, target = path.add_noise(x0, noise, sigma), path.target(x0, noise)
        error = path.error(target + 2, x0, noise)
        off = max(off, furthest(x - sigma * target, x0), furthest(error, torch.full_like(error, 4.0)))
    yield Finding("path", off, LATENTS)


def check_autoencoder(subject: Subject) -> Iterator[Finding]:
    """Our pictures are the pipeline's, and encoding undoes scale, shift and statistics of decoding."""
    sampling = next(subject.samplings)
    latents = subject.draw(untrained(subject.model), sampling)
    ours = subject.model.decode(latents)
    theirs = subject.draw_theirs(subject.model.pipeline, sampling, output_type="pil")
    levels = [np.abs(np.asarray(a, int) - np.asarray(b, int)).max() for a, b in zip(ours, theirs, strict=True)]
    yield Finding("pictures (grey levels)", float(max(levels)), 1)
    vae, held = subject.model.pipeline.vae, []

    def decode(values: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        held.append(values)
        return (values,)

    def encode(_values: torch.Tensor, return_dict: bool = True) -> Any:
        kept = held[-1]
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: kept)) if return_dict else (kept,)

    vars(vae).update(decode=decode, encode=encode)  # an autoencoder that loses nothing
    try:
        back = subject.model.to_latents(subject.model.to_pixels(latents))
    finally:
        del vae.decode, vae.encode
    yield Finding("latents through a lossless autoencoder", furthest(back, latents), LATENTS)
    image = [picture for picture in ours if isinstance(picture, Image.Image)]
    again = subject.model.encode_images(image)
    yield Finding("latents have one shape", float(again.shape != latents.shape), 0)


def check_gradient(subject: Subject) -> Iterator[Finding]:
    """The gradient of an error in one adapter's weight is the central difference, in fp64 up to the velocity."""
    model = subject.another()
    policy = adapted(model)
    model.transformer.double()
    shape = model.latent_shape(*subject.sizes[0])
    x0, noise = (seeded_noise((len(subject.texts), *shape), what) for what in ("image", "noise"))
    rows, sigma_B = model.encode(list(subject.texts)), torch.full((len(x0),), 0.5)

    def error() -> torch.Tensor:
        v = policy.velocity("current", model.path.add_noise(x0, noise, 0.5), sigma_B, rows, purpose="current")
        return model.path.error(v, x0, noise).double().mean()

    gradients = torch.autograd.grad(error(), policy.parameters)
    which = max(range(len(gradients)), key=lambda place: gradients[place].abs().max().item())
    place = int(gradients[which].abs().argmax())
    weight = policy.parameters[which].data.view(-1)
    before, by, values = weight[place].item(), 1e-1, []
    with torch.no_grad():
        for steps in (1, -1, 2, -2):
            weight[place] = before + steps * by
            values.append(error().item())
    numeric = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * by)  # to the fourth order
    exact = gradients[which].view(-1)[place].item()
    yield Finding("gradient", abs(numeric - exact) / abs(exact), 1e-3, f"of {exact:.2g}")


def check_schedule(subject: Subject) -> Iterator[Finding]:
    """Our times are those that the pipeline's scheduler came to, at every size; each is a noise level."""
    model, worst, outside = subject.model, 0.0, 0
    for sampling in subject.samplings:
        times = model.schedule(sampling, model.latent_shape(sampling.height, sampling.width)).times
        subject.draw_theirs(model.pipeline, sampling)
        theirs = model.own_times(model.pipeline.scheduler)
        worst = max(worst, furthest(torch.tensor(times), theirs))
        outside += sum(not 0 < time <= 1 for time in times)
    yield Finding("times", worst, 1e-6)
    yield Finding("times that are no noise levels", outside, 0)


def check_lora(subject: Subject) -> Iterator[Finding]:
    """What is published opens in the plain pipeline and draws the same."""
    model = subject.another()
    policy = adapted(model)
    sampling = list(subject.samplings)[-1]
    with tempfile.TemporaryDirectory() as place:
        publish_weights(Path(place), policy, policy.published_weights(policy.published))
        plain = subject.another().pipeline
        plain.load_lora_weights(place)
        theirs = subject.draw_theirs(plain, sampling)
    ours = model.own_latents(subject.draw(policy, sampling))
    numbers = sum(parameter.numel() for parameter in policy.parameters)
    targets = len({name.rpartition(".lora_")[0] for name in policy.trained})
    yield Finding("LoRA", apart(ours, theirs), LATENTS, f"{targets} layers, {numbers} numbers at rank {RANK}")
    without = model.own_latents(subject.draw(untrained(subject.model), sampling))
    yield Finding("LoRA that changes nothing", float(furthest(ours, without) < HEARD), 0)


def check_training(subject: Subject) -> Iterator[Finding]:
    """Two iterations, with an end after the first, are two iterations, bit for bit; and they move the adapters."""
    from dgpo.compare_runs import compare_runs
    from dgpo.config import check_config
    from dgpo.session import train

    height, width = subject.sizes[0]
    sampling = {"sampler": "euler", "steps": 2, "guidance": 1.0, "height": height, "width": width}
    settings: dict[str, Any] = {
        "model": str(subject.folder), "rewards": ["imagestats.edges"], "groups": 1, "group_size": 2, "workers": 0,
        "checkpoint": {"every": 1}, "samples": {"every": 0}, "watch": {"canaries": 0},
        "sampling": {**sampling, "text_length": subject.model.text_length},
        "training": {"rank": RANK, "alpha": RANK, "dtype": "fp32"}, "dgpo": {"times": 1, "min_sigma": 0.0},
    }  # fmt: skip
    prompts = [Prompt(text) for text in subject.texts]
    with tempfile.TemporaryDirectory() as place:
        for folder, ends in (("whole", (2,)), ("resumed", (1, 2))):
            for end in ends:
                config = check_config({**settings, "steps": end}, "the conformance check")
                train(config, Path(place) / folder, prompts=prompts)
        differing = [one for one in compare_runs(Path(place) / "whole", Path(place) / "resumed") if one.step == 2]
    yield Finding("training goes on bit for bit", float(len(differing)), 0, str(differing[0]) if differing else "")


CHECKS: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "rollout": check_rollout,
    "path": check_path,
    "autoencoder": check_autoencoder,
    "gradient": check_gradient,
    "schedule": check_schedule,
    "lora": check_lora,
    "training": check_training,
}


def _load(family: type[PipelineModel], folder: Path, text_length: int) -> PipelineModel:
    model = family.load(folder, dtype=torch.float32, device=torch.device("cpu"), text_length=text_length)
    model.embeddings = None  # what reads texts is tried too
    return model


def untrained(model: Model) -> Policy:
    return Policy(model, Training(dtype="fp32"), trainable=False)


def adapted(model: PipelineModel) -> Policy:
    """With adapters that change something, as after a training."""
    policy = Policy(model, Training(rank=RANK, alpha=RANK, dtype="fp32"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


def furthest(some: torch.Tensor, others: torch.Tensor) -> float:
    """The largest difference; infinite where a number is none."""
    difference = (some.double() - others.double()).abs().max().item()
    return difference if difference == difference else float("inf")  # NaN is unequal to itself


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference of latents, of their largest number where that is above 1."""
    return furthest(ours, theirs) / max(1.0, theirs.abs().max().item())


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dgpo.models.conformance", description=__doc__)
    parser.add_argument("folder", help="a diffusers folder")
    parser.add_argument("--check", choices=CHECKS, action="append", help="only this one; may be given several times")
    asked = parser.parse_args(words)
    place = find_model(asked.folder)
    if not isinstance(place, Path):
        raise UsageError(f"{asked.folder} is no folder; download the model first.")
    subject, fine = Subject.of(place), True
    for name in asked.check or CHECKS:
        for finding in CHECKS[name](subject):
            fine &= finding.holds
            print(finding, flush=True)
    return DONE if fine else GATE_FAILED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DgpoError as error:
        print(f"dgpo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
