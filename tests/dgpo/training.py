"""A small training put together as the command line does it, for this process or for one of its own."""

import hashlib
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from dgpo import session
from dgpo.checkpoint import Progress
from dgpo.config import Config, check_config, place
from dgpo.load import load_policy
from dgpo.models.tiny.words import sign_prompts
from dgpo.parallel import Ranks
from dgpo.policy import Policy
from dgpo.reward_choice import choose_rewards
from dgpo.run import Run
from dgpo.session import Evaluation, Outcome, assemble
from dgpo.supervision.hooks import Hook, Moment
from dgpo.trainer import Trainer
from rewards.pool import RewardFacts, Scored, ScoringPool
from rewards.prompt import Prompt
from rewards.registry import build
from rewards.score import Score
from rewards.scoring.questions import tell_facts
from rewards.spec import RewardSpec

PROMPTS = tuple(Prompt(text) for text in sign_prompts(("anchor", "basket", "cable", "dragon", "eagle", "fog")))
SMALL = {
    "rewards": ["imagestats.edges"],
    "steps": 3,
    "groups": 2,
    "group_size": 4,
    "workers": 0,
    "training": {"rank": 4, "alpha": 8, "dtype": "fp32"},
    "sampling": {"steps": 4, "guidance": 1.0, "height": 32, "width": 64, "text_length": 0},
    "rollout": {"micro_batch": 8},
    "dgpo": {"kl": 0.0, "clip": None, "times": 2, "min_sigma": 0.5},
    "optimizer": {"learning_rate": 1e-3, "micro_batch": 8},
    "averages": {"evaluation_every": 1},
    "watch": {"canaries": 0},
    "checkpoint": {"every": 0},
    "samples": {"every": 0},
}


def small_config(model: str | Path, changes: Mapping[str, Any] | None = None) -> Config:
    """A run of seconds; `changes` by dotted names."""
    values: dict[str, Any] = {name: dict(v) if isinstance(v, dict) else v for name, v in SMALL.items()}
    values["model"] = str(model)
    if (changes or {}).get("algorithm", "dgpo") != "dgpo":
        del values["dgpo"]
    for name, value in (changes or {}).items():
        place(values, name.split("."), value)
    return check_config(values, "the test")


def brightness(image: Image.Image, prompt: Prompt) -> float:
    """Smooth, cheap, and different for any two images."""
    return float(np.asarray(image, dtype=np.float64).mean()) / 255


@dataclass
class Judge:
    """Stands where a scoring pool stands, and scores by a function; None from it is a failed score."""

    specs: Sequence[RewardSpec]
    value: Callable[[Image.Image, Prompt], float | None] = brightness
    seen: list[Prompt] = field(default_factory=list)

    def submit(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> "Future[Scored]":
        self.seen += prompts
        values = [self.value(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        scores = [Score.failed("the judge slept") if value is None else Score(value) for value in values]
        future: Future[Scored] = Future()
        future.set_result(Scored({spec.key: scores for spec in self.specs}, {spec.key: 0.0 for spec in self.specs}))
        return future

    def facts(self) -> Mapping[str, RewardFacts]:
        return tell_facts(build(self.specs))

    def limited_to(self, specs: Sequence[RewardSpec]) -> "Judge":
        return self


def stir(policy: Policy, std: float, seed: int = 0) -> None:
    """Move the trained weights, so that the policy differs from its reference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.trained.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=std)


def build_trainer(
    config: Config,
    folder: Path,
    *,
    value: Callable[[Image.Image, Prompt], float | None] = brightness,
    prompts: Sequence[Prompt] = PROMPTS,
    ranks: Ranks | None = None,
    hooks: Sequence[Hook] = (),
) -> Trainer:
    """A trainer in a folder that `Run.begin` has been called for, or not."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = ranks or Ranks(cpu=True)
    rewards = choose_rewards(config)
    return assemble(
        config,
        policy=load_policy(config.model, config, ranks.device, trainable=True),
        rewards=rewards,
        prompts=prompts,
        sample_prompts=prompts[:1],
        pool=cast(ScoringPool, Judge(rewards.trained, value)),
        run=Run(folder),
        ranks=ranks,
        hooks=hooks,
    )


class Trained(Hook):
    """What a training came to: how it ended, and the trainer that did it."""

    outcome: Outcome
    trainer: Trainer

    def begin(self, training: Trainer, moment: Moment) -> None:
        self.trainer = training

    @property
    def run(self) -> Run:
        return self.trainer.run

    @property
    def policy(self) -> Policy:
        return self.trainer.policy

    @property
    def progress(self) -> Progress:
        return self.trainer.progress


def train(
    config: Config,
    folder: Path,
    facts: Mapping[str, Any] | None = None,
    *,
    value: Callable[[Image.Image, Prompt], float | None] = brightness,
    pool: ScoringPool | None = None,
    evaluate: Callable[[int, Policy], Any] | None = None,
    picture: Callable[[int], Any] | None = None,
    prompts: Sequence[Prompt] = PROMPTS,
    hooks: Sequence[Hook] = (),
    ranks: Ranks | None = None,
    **listeners: Any,
) -> Trained:
    """The same command, given again and again: starts or continues the run in `folder`; scored by `value` or a pool."""
    trained, rewards = Trained(), choose_rewards(config)
    trained.outcome = session.train(
        config,
        folder,
        prompts=prompts,
        sample_prompts=prompts[:1],
        rewards=rewards,
        pool=pool or cast(ScoringPool, Judge(rewards.trained, value)),
        evaluation=None if evaluate is None else lambda *_: Evaluation(evaluate, picture),
        hooks=[trained, *hooks],
        facts=facts,
        ranks=ranks or Ranks(cpu=True),
        **listeners,
    )
    return trained


def digest(folder: Path, step: int) -> str:
    """Of every tensor that a checkpoint holds, and of its progress; a file's own bytes name things in any order."""
    path = folder / "checkpoints" / f"step-{step:06d}"
    tensors = {file.name: load_file(file) for file in path.rglob("*.safetensors")}
    assert len(tensors) == 2
    found = hashlib.sha256((path / "trainer.json").read_bytes())
    for name in sorted(tensors):
        for key in sorted(tensors[name]):
            found.update(key.encode() + tensors[name][key].numpy().tobytes())
    return found.hexdigest()


def train_as_rank(rank: int, size: int, port: int, config: Config, folder: Path) -> None:
    """One of several processes, told so by the variables that accelerate sets."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    ranks = Ranks(cpu=True)
    assert (ranks.rank, ranks.size) == (rank, size)
    train(config, folder, ranks=ranks)
    torch.distributed.destroy_process_group()


def train_processes(processes: ForkServerContext, size: int, config: Config, folder: Path) -> None:
    """A training in several processes, by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [processes.Process(target=train_as_rank, args=(rank, size, port, config, folder)) for rank in range(size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=240)
    assert [rank.exitcode for rank in ranks] == [0] * size


def train_until_killed(config: Config, folder: Path, kill_in_save: int | None) -> None:
    """A process of its own, to be killed from outside, or when its checkpoint of that step is all but in place."""
    torch.set_num_threads(1)
    rename = os.rename

    def rename_or_die(path: str | os.PathLike[str], target: str | os.PathLike[str], **options: Any) -> None:
        if kill_in_save is not None and Path(target).name == f"step-{kill_in_save:06d}":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(path, target, **options)

    os.rename = os.replace = rename_or_die
    train(config, folder)
