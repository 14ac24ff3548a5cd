"""What is looked at before a training begins, so that it does not stop hours later for something known at the start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rewards.errors import UsageError

if TYPE_CHECKING:
    from cli.training_prompts import TrainingPrompts
    from dgpo.config import Config
    from rewards.reward import Reward


def check_model(config: Config) -> None:
    """The model's name makes sense, before prompts are asked for that it may not need."""
    from cli.model import choose_model

    if choose_model(config.model).run is not None:
        raise UsageError(
            f"{config.model} is a run, not a base model. To go on with it, give its own command again "
            "(more --steps makes it longer)."
        )


def check_precision(config: Config) -> None:
    if config.training.dtype == "fp16":
        raise UsageError(
            "training.dtype fp16 is for drawing only: the small gradients of a training vanish in it. "
            "Take auto, bf16 or fp32."
        )


def check_rewards(config: Config) -> None:
    from rewards.registry import check_trainable

    if not config.rewards:
        raise UsageError(
            "Say what to train on: --reward NAME, for instance --reward ocr. `dgpo rewards ls` lists them."
        )
    check_trainable(config.reward_specs)


def check_guards(config: Config) -> None:
    """A guard names what the evaluations of this run will measure, and there are evaluations."""
    from benchmarks.pictures import BETWEEN_SEEDS, FIGURES
    from dgpo.guards import check_names

    evaluation = config.evaluation
    guards = evaluation.guards
    if not guards:
        return
    if not evaluation.on:
        raise UsageError(
            "--stop-when looks at evaluations, and this run has none; give it some with --set evaluation.suite=NAME "
            "--set evaluation.every=N."
        )
    check_names(guards, [spec.key for spec in config.evaluation_specs], FIGURES)
    blind = [str(guard) for guard in guards if guard.name in BETWEEN_SEEDS and evaluation.seeds < 2]
    if blind:
        raise UsageError(
            f'The guard "{blind[0]}" compares images of one prompt, and evaluations draw one each; draw more with '
            "--set evaluation.seeds=2."
        )


def check_prompts(config: Config, training: TrainingPrompts, rewards: list[Reward], data: Path | None) -> None:
    """Rewards must be able to judge every prompt of training (those trained on) and evaluation (all); all are named."""
    from benchmarks.evaluate import check_prompts as judge_all
    from benchmarks.suite import Suite
    from cli.suites import find_suite

    distinct = tuple(dict.fromkeys(training.prompts))
    trained_on = rewards[: len(config.reward_specs)]
    judge_all(Suite(config.prompts or "training prompts", distinct, "training"), trained_on)
    if config.evaluation.suite is not None and config.evaluation.on:
        try:
            judge_all(find_suite(config.evaluation.suite, data), rewards)
        except UsageError as error:
            raise UsageError(
                f"The run would be evaluated on {config.evaluation.suite}; name another suite with --set "
                f"evaluation.suite=NAME, or none with --set evaluation.every=0. {error}"
            ) from None
