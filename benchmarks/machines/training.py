"""How fast an iteration of training is, stage by stage, and beside a plain loop of the released method in one run.

    python -m benchmarks.machines.training [--model FOLDER|tiny|random:NAME] [--against plain] [--groups K]
        [--group-size G] [--rounds R] [--device auto|cpu|cuda] [--height H --width W] [--reward SPEC] [--set a.b=VALUE]

Ours is the program's own trainer, its functions wrapped from outside. One iteration each comes first, in which
operations and copies are counted and nothing is timed; then both do the same iterations in alternation, and have to
come to the same latents and weights before their ratio is printed. CPU seconds are this process's, with --workers 0
scoring included. Models `random:sd35-medium`, `random:sd35-large` and `random:flux1-dev` are networks of the published
sizes with random weights, made here.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import dgpo.algorithms.dgpo
import dgpo.rollout
import dgpo.trainer
from benchmarks.machines.peak import peak_of
from benchmarks.machines.plain_training import PlainLoop, copy_gradients
from benchmarks.machines.random_models import PREFIX, make_random_model
from benchmarks.machines.stages import AROUND, STAGES, Stages, patched
from benchmarks.reading.markdown import render_markdown
from dgpo.config import Config, load_config
from dgpo.load import find_recipes, load_model, weights_dtype
from dgpo.models.embeddings import PLACE
from dgpo.models.libraries import hushed_loading
from dgpo.parallel import Ranks
from dgpo.policy import Policy
from dgpo.precision import dtype_of, examine, settle
from dgpo.prompts import default_prompts
from dgpo.reward_choice import RewardChoice, choose_rewards
from dgpo.run import Run
from dgpo.sample import draw_images, evaluation_sampling
from dgpo.session import assemble, open_pool
from dgpo.trainer import Trainer
from rewards.errors import DgpoError, SetupError, UsageError
from rewards.pool import ScoringPool
from rewards.prompt import Prompt

WORDS = "OPEN TEA EXIT BOOKS FRESH NORTH STOP LUNCH MUSIC BIKES HOTEL PARK SALE RIVER GATE MILK".split()  # noqa: SIM905
MEAN = """
import numpy
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score


class Mean(Reward):
    card = Card(name="mean", version=1, unit="mean grey", bounds=(0, 1), higher_is_better=True, summary="the mean")

    def score(self, images, prompts):
        return [Score(float(numpy.asarray(image, dtype=numpy.float64).mean()) / 255) for image in images]
"""
# Of latents and of gradients. In bf16 frozen weights that are cast in every call, and merged ones, round otherwise.
TOLERANCES = {"fp32": (1e-3, 1e-3), "bf16": (2e-2, 0.25)}


@dataclass
class Rounds:
    """Seconds and CPU seconds of each round, by stage."""

    wall: list[dict[str, float]] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    flops: dict[str, float] = field(default_factory=dict)
    """Of an iteration, by stage."""
    copied: float = 0.0

    def median(self, stage: str, *, cpu: bool = False) -> float:
        return statistics.median(one.get(stage, 0.0) for one in (self.cpu if cpu else self.wall))

    @property
    def flops_in_all(self) -> float:
        return sum(count for name, count in self.flops.items() if name not in AROUND)

    def totals(self, *, cpu: bool = False) -> list[float]:
        return [sum(one.values()) for one in (self.cpu if cpu else self.wall)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print Markdown; progress goes to stderr."""
    chosen = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="dgpo-texts-") as texts, _variable(PLACE, texts):
            print(run(chosen))  # texts that earlier commands have kept would be read in no time
    except DgpoError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def run(chosen: argparse.Namespace) -> str:
    """What `main` prints.

    Raises:
        UsageError, SetupError: the model, its settings or the device are not to be had.
        SystemExit: the two loops come to other numbers.
    """
    device = _pick_device(chosen.device)
    with tempfile.TemporaryDirectory(prefix="dgpo-training-") as folder, ExitStack() as opened:
        config = _make_config(chosen, device, Path(folder))
        rewards = choose_rewards(config)
        prompts = default_prompts(config) if config.model == "tiny" else _prompts(config.groups)
        pool = opened.enter_context(open_pool(config, rewards, measuring=False))
        pool.wait_until_built()
        ours = Ours(config, _load(config, device, weights_dtype(config.training)), prompts, rewards, pool, Path(folder))
        sides: dict[str, Any] = {"ours": ours}
        if chosen.against == "plain":
            sides["plain"] = Plain(config, _load(config, device, "fp32", config.training.dtype), prompts, pool)
        rounds = measure(sides, chosen.rounds, device)
        differences = _compare(ours, sides["plain"], config) if "plain" in sides else None
    return describe(config, device, rounds, differences)


class Ours:
    """The program's own trainer, one iteration at a time."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        prompts: Sequence[Prompt],
        rewards: RewardChoice,
        pool: ScoringPool,
        folder: Path,
    ) -> None:
        run = Run(folder / "run")
        run.folder.mkdir()
        run.begin(config, {}, fresh=True)
        ranks = Ranks(cpu=policy.model.device.type == "cpu")
        self.stages = Stages(policy.model.device)
        self.trainer: Trainer = assemble(
            config, policy=policy, rewards=rewards, prompts=prompts, pool=pool, run=run, ranks=ranks
        )
        self.trainer.hooks = []
        self.policy, self.prompts, self.pool, self.config = policy, prompts, pool, config
        self.x0_BCHW, self.gradients = torch.empty(0), list[torch.Tensor]()
        """The latents of the latest iteration, and the gradients of the first."""

    def iterate(self, step: int) -> None:
        """One iteration; what stands around the loop follows: a checkpoint, and an evaluation of one image a prompt."""
        trainer, wrap, model = self.trainer, self.stages.wrap, self.policy.model
        learn = trainer.algorithm.learn

        def remember(batch: Any, *rest: Any) -> Any:
            self.x0_BCHW = batch.x0_BCHW
            return learn(batch, *rest)

        def update() -> None:
            self.gradients = self.gradients or copy_gradients(self.policy)
            Trainer._update(trainer)

        noise, draw = dgpo.rollout.seeded_noise, dgpo.rollout.draw_latents
        places: list[tuple[Any, str, Callable[..., Any]]] = [
            (model, "encode", wrap("text encoding", model.encode)),
            (dgpo.rollout, "seeded_noise", wrap("noise", noise)),
            (dgpo.algorithms.dgpo, "seeded_noise", wrap("noise", noise)),
            (dgpo.rollout, "draw_latents", wrap("drawing", draw)),
            (model, "decode", wrap("decoding", model.decode)),
            (trainer.source, "submit", wrap("scoring", self.pool.submit)),
            (dgpo.trainer, "collect_drawn", wrap("scoring", dgpo.trainer.collect_drawn)),
            (trainer.algorithm, "learn", wrap("learning", remember)),
            (trainer, "_update", wrap("update", update)),
        ]
        with self.stages.running():
            with patched(places):
                trainer._iterate(step)
            with self.stages.stage("checkpoint"):
                trainer.save(check=False)
                trainer.state.finish()
            with self.stages.stage("evaluation"):
                self._evaluate()

    def _evaluate(self) -> None:
        cells = [(prompt, 0) for prompt in self.prompts[: self.config.groups]]
        sampling = evaluation_sampling(self.config.sampling, self.config.evaluation)
        images = draw_images(self.policy, cells, sampling, who=self.policy.published)
        made = [(image, cell[0]) for image, cell in zip(images, cells, strict=True) if not isinstance(image, str)]
        self.pool.submit([image for image, _ in made], [prompt for _, prompt in made]).result()


class Plain:
    """The plain loop, one iteration at a time."""

    def __init__(self, config: Config, policy: Policy, prompts: Sequence[Prompt], pool: ScoringPool) -> None:
        self.stages, self.policy = Stages(policy.model.device), policy
        self.loop = PlainLoop(config, policy, prompts, pool, self.stages)

    @property
    def x0_BCHW(self) -> torch.Tensor:
        return self.loop.x0_BCHW

    @property
    def gradients(self) -> list[torch.Tensor]:
        return self.loop.gradients

    def iterate(self, step: int) -> None:
        with self.stages.running():
            self.loop.iterate(step)


def measure(sides: dict[str, Any], rounds: int, device: torch.device) -> dict[str, Rounds]:
    """An iteration of each side in which operations are counted, then `rounds` that are timed, in alternation."""
    results = {name: Rounds() for name in sides}
    for step in range(rounds + 1):
        for name, side in sides.items():
            print(f"iteration {step}, {name}", file=sys.stderr, flush=True)
            side.stages.wall.clear()
            side.stages.cpu.clear()
            if step == 0:
                with side.stages.counting():
                    side.iterate(step)
                results[name].flops = dict(side.stages.flops)
                results[name].copied = sum(side.stages.copied.values())
            else:
                side.iterate(step)
                results[name].wall.append(dict(side.stages.wall))
                results[name].cpu.append(dict(side.stages.cpu))
    return results


def describe(
    config: Config, device: torch.device, rounds: dict[str, Rounds], differences: tuple[float, float] | None
) -> str:
    """A heading, the table by stage, and what holds for the whole."""
    peak, how = peak_of(device, dtype_of(config.training.dtype))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    heading = (
        f"{config.model}, {config.groups} x {config.group_size} images, {config.training.dtype} on {name}, torch "
        f"{torch.__version__}, {torch.get_num_threads()} threads, workers: {config.workers}; medians of "
        f"{len(rounds['ours'].wall)} rounds in alternation; peak: {peak / 1e12:.3g} TFLOP/s ({how})"
    )
    told = [heading, _table(rounds, config.images, peak), *(_whole(name, one) for name, one in rounds.items())]
    most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    told.append(f"peak memory of the process, all sides together: {most / 2**30:.1f} GiB")
    if differences is not None:
        latents, gradients = differences
        told.append(
            f"same numbers: gradients of the first iteration differ by {gradients:.1e}, latents of the last by "
            f"{latents:.1e}, relative to their norms"
        )
    return "\n\n".join(told)


def _table(rounds: dict[str, Rounds], images: int, peak: float) -> str:
    ours, plain = rounds["ours"], rounds.get("plain")
    head = ["stage", "s", "images/s", "CPU s", "share of peak"]
    head += ["plain, s", "plain, CPU s", "ratio", "CPU ratio"] if plain else []
    lines = []
    for stage in [*STAGES, "iteration"]:
        alone = stage in AROUND  # of ours only
        wall, cpu = _of(ours, stage), _of(ours, stage, cpu=True)
        flops = ours.flops_in_all if stage == "iteration" else ours.flops.get(stage, 0)
        share = f"{flops / wall / peak:.0%}" if flops and wall else ""
        rate = f"{images / wall:.3g}" if wall and not alone else ""
        line = [stage, f"{wall:.3g}", rate, f"{cpu:.3g}", share]
        if plain is not None:
            other, other_cpu = _of(plain, stage), _of(plain, stage, cpu=True)
            ratios = [f"{a / b:.2f}" if b > 0.005 and not alone else "" for a, b in ((other, wall), (other_cpu, cpu))]
            line += [*((f"{other:.3g}", f"{other_cpu:.3g}") if not alone else ("", "")), *ratios]
        lines.append(line)
    return render_markdown(head, lines).rstrip()


def _of(rounds: Rounds, stage: str, *, cpu: bool = False) -> float:
    """Of a stage, or of the iteration: all but what stands around the loop."""
    if stage != "iteration":
        return rounds.median(stage, cpu=cpu)
    return statistics.median(
        sum(seconds for name, seconds in one.items() if name not in AROUND)
        for one in (rounds.cpu if cpu else rounds.wall)
    )


def _whole(name: str, rounds: Rounds) -> str:
    totals = rounds.totals()
    return (
        f"{name}: {min(totals):.3g} to {max(totals):.3g} s a round, with all that is measured; "
        f"{rounds.flops_in_all / 1e12:.3g} TFLOP and {rounds.copied / 2**20:.3g} MiB between host and device an "
        "iteration"
    )


def _compare(ours: Ours, plain: Plain, config: Config) -> tuple[float, float]:
    """How far both are apart, relative: the latents of the last iteration, and the gradients of the first.

    Raises:
        SystemExit: further than rounding explains.
    """
    if not ours.gradients:
        raise SystemExit(
            "All images of each group were scored alike, so nothing was learned; there is nothing to compare."
        )
    pairs = list(zip(ours.gradients, plain.gradients, strict=True))
    size = sum(one.square().sum().item() for one, _ in pairs) ** 0.5
    apart = sum((one - other).square().sum().item() for one, other in pairs) ** 0.5
    latents = ((ours.x0_BCHW - plain.x0_BCHW).norm() / ours.x0_BCHW.norm()).item()
    gradients = apart / size if size else 0.0
    allowed = TOLERANCES[config.training.dtype]
    if not (latents <= allowed[0] and gradients <= allowed[1]):
        raise SystemExit(
            f"The two loops come to other numbers: latents differ by {latents:.1e} (at most {allowed[0]:g}), gradients "
            f"by {gradients:.1e} (at most {allowed[1]:g}), so there is nothing to compare."
        )
    return latents, gradients


def _load(config: Config, device: torch.device, held: str, rounded: str | None = None) -> Policy:
    """A policy with fresh adapters, its frozen weights `held` in a precision, of the numbers that they have in another.

    Args:
        rounded: the precision whose numbers they are, where it is another.
    """
    name, length = config.model, config.sampling.text_length
    dtype = dtype_of(rounded or held)
    with hushed_loading():
        if name.startswith(PREFIX):
            made = make_random_model(name.removeprefix(PREFIX), dtype=dtype, device=device, text_length=length)
        else:
            made = load_model(name, dtype=rounded or held, device=device, text_length=length)
    made.scale = config.sampling.guidance
    torch.nn.Module.to(made.transformer, dtype_of(held))  # diffusers' own keeps some parts as they are
    return Policy(made, config.training, seed=config.seed, trainable=True)


def _make_config(chosen: argparse.Namespace, device: torch.device, folder: Path) -> Config:
    """The model's recipe with no evaluation, samples or checkpoints of its own, and one update for all times.

    Pictures of random networks say nothing, which the rewards they are scored by would all call equal: their mean is
    learned from besides.
    """
    name = chosen.model
    recipe = chosen.recipe or ("tiny" if name == "tiny" else "ocr")
    if not chosen.recipe and not name.startswith(PREFIX) and name != "tiny":
        recipe = f"{find_recipes(name) or ''}ocr"
    reward = [chosen.reward]
    if name.startswith(PREFIX):
        (folder / "mean.py").write_text(MEAN)
        reward = [f"{chosen.reward}=0.5", f"{folder / 'mean.py'}:Mean=0.5"]
    given: dict[str, Any] = {
        "rewards": reward,
        "dgpo.one_update": True,
        "model": name,
        "workers": chosen.workers,
        "evaluation.every": 0,
        "samples.every": 0,
        "checkpoint.every": 0,
        "watch.canaries": 0,
    }
    sizes = {"groups": chosen.groups, "group_size": chosen.group_size, "sampling.height": chosen.height}
    given |= {key: value for key, value in {**sizes, "sampling.width": chosen.width}.items() if value is not None}
    config = load_config(recipe, given, chosen.set or [])
    settings = config.learning
    if config.algorithm != "dgpo" or config.source.kind != "online" or config.training.method != "lora":
        raise UsageError("This measures DGPO on images that are drawn now, with adapters; leave other settings out.")
    if chosen.against and (settings.reference != "base" or settings.guided or settings.weights != "advantages"):
        raise UsageError("The plain loop compares with the base model, unguided; take another recipe, or no --against.")
    if chosen.against and config.group_size > config.optimizer.micro_batch:
        raise UsageError(
            f"The plain loop learns from whole groups, and {config.group_size} images are more than "
            f"optimizer.micro_batch ({config.optimizer.micro_batch}); raise it with --set."
        )
    return config.in_precision(settle(config.training.dtype, examine(device)).dtype)


def _prompts(count: int) -> list[Prompt]:
    return [Prompt(f'a wooden sign that says "{WORDS[n % len(WORDS)]} {n}"') for n in range(count)]


def _pick_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SetupError("--device cuda: no GPU is here that this torch can use (`dgpo doctor` tells more).")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.machines.training", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", default="tiny", help="a diffusers folder, tiny (the default), or random:NAME")
    parser.add_argument("--against", choices=("plain",), help="the plain loop beside ours, in alternation")
    parser.add_argument("--recipe", help="instead of the model's own for OCR")
    parser.add_argument("--reward", default="ocr", help="what scores; default: ocr")
    parser.add_argument("--workers", type=int, default=1, help="scoring processes; 0 scores in this one")
    parser.add_argument("--groups", type=int, metavar="K")
    parser.add_argument("--group-size", type=int, metavar="G")
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--rounds", type=int, default=3, help="timed iterations of each side; default: 3")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--set", action="append", metavar="a.b=VALUE", help="any setting of a training; repeatable")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
