"""What is looked at before a training begins, so that it does not stop hours later for something known at the start.

The same for `--dry-run`, which says no to whatever the training itself would refuse, in the same words; only what must
be loaded or drawn to be known is left to the training, and files that it would fetch are named instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rewards.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.suite import Suite
    from cli.training_prompts import TrainingPrompts
    from dgpo.config import Config
    from dgpo.reward_choice import RewardChoice
    from rewards.pool import ScoringPool


def check_settings(config: Config) -> RewardChoice:
    """What the settings alone tell, and no library of models: quick, since the process that only starts others begins
    with it too. Returns the rewards that they name."""
    from dgpo.plan import check_rollout
    from dgpo.reward_choice import choose_rewards

    check_model(config)
    check_precision(config)
    check_rewards_named(config)
    rewards = choose_rewards(config)
    check_rewards(rewards)
    check_guards(config, rewards)
    check_rollout(config)
    return rewards


def check_training(
    config: Config,
    rewards: RewardChoice,
    pool: ScoringPool,
    folder: Path,
    training: TrainingPrompts | None,
    suite: Suite | None,
    *,
    fresh: bool,
) -> None:
    """All else that can be known before a model is loaded or a folder made: rewards, prompts, the run folder.

    Args:
        pool: an open one; the rewards are asked where they score.
        training, suite: None where these prompts are not on this machine yet.

    Raises:
        UsageError, SetupError: the first of what would stop this training.
    """
    from dgpo.algorithms.algorithm import find_algorithm
    from dgpo.load import check_drawable
    from dgpo.plan import check_first_step

    times = check_drawable(config.model, config.sampling, fetch=False)
    if times:
        check_first_step(config, times)
        find_algorithm(config.algorithm).check_times(config.learning, times)
    pool.wait_until_built()
    check_prompts(config, training, suite, pool, [spec.key for spec in rewards.trained])
    check_folder(config, folder, training, fresh=fresh)


def check_model(config: Config) -> None:
    """The model's name makes sense, before prompts are asked for that it may not need."""
    from cli.model import choose_model

    if choose_model(config.model).run is not None:
        raise UsageError(
            f"{config.model} is a run, not a base model. To go on with it, give its own command again "
            "(more --steps makes it longer)."
        )


def check_sizes(config: Config) -> None:
    """A model that is here is of a family that this algorithm can train, and draws images of these sizes."""
    from dgpo.load import check_drawable, check_learnable
    from dgpo.models.families import family_of
    from dgpo.models.find import find_model
    from dgpo.models.pretrained import read_index

    place = find_model(config.model)
    if isinstance(place, Path):
        family_of(place, read_index(place))
        check_drawable(config.model, config.sampling)
    check_learnable(config, fetch=False)


def check_precision(config: Config) -> None:
    if config.training.dtype == "fp16":
        raise UsageError(
            "training.dtype fp16 is for drawing only: the small gradients of a training vanish in it. "
            "Take auto, bf16 or fp32."
        )


def check_processes(config: Config, processes: int) -> None:
    """Every process has an image to draw."""
    if processes > config.images:
        raise UsageError(
            f"{processes} processes for {config.images} images per iteration (groups {config.groups} x group_size"
            f" {config.group_size}): some would have none. Start at most {config.images}, or draw more."
        )


def check_rewards_named(config: Config) -> None:
    if not config.rewards:
        raise UsageError(
            "Say what to train on: --reward NAME, for instance --reward ocr. `dgpo rewards ls` lists them."
        )


def check_rewards(rewards: RewardChoice) -> None:
    """Each can be trained on; a weight of zero teaches nothing, one below zero trains against a reward, as one may."""
    from rewards.registry import check_trainable

    check_trainable(rewards.trained)
    for spec in rewards.trained:
        if spec.train_weight == 0:
            raise UsageError(
                f"{spec.key} has the weight 0, so nothing is learned from it. Give it another weight, or only measure "
                f"it: --set 'evaluation.rewards=[{spec.name}]'."
            )


def check_guards(config: Config, rewards: RewardChoice) -> None:
    """A guard names what the evaluations of this run will measure, and there are evaluations."""
    from benchmarks.reading.image_statistics import BETWEEN_SEEDS, FIGURES
    from dgpo.supervision.guards import check_names, parse_guard

    evaluation = config.evaluation
    guards = [parse_guard(text) for text in evaluation.stop_when]
    if not guards:
        return
    if not evaluation.on:
        raise UsageError(
            "--stop-when looks at evaluations, and this run has none; give it some with --set evaluation.suite=NAME "
            "--set evaluation.every=N."
        )
    check_names(guards, [spec.key for spec in rewards.measured], FIGURES)
    blind = [str(guard) for guard in guards if guard.name in BETWEEN_SEEDS and evaluation.seeds < 2]
    if blind:
        raise UsageError(
            f'The guard "{blind[0]}" compares images of one prompt, and evaluations draw one each; draw more with '
            "--set evaluation.seeds=2."
        )


def check_prompts(
    config: Config,
    training: TrainingPrompts | None,
    suite: Suite | None,
    pool: ScoringPool,
    trained: Sequence[str],
) -> None:
    """Rewards must be able to judge every prompt of training (those trained on) and evaluation (all); all are named.

    Prompts that are not on this machine yet are None.
    """
    from benchmarks.harness.evaluate import check_prompts as judge_all
    from benchmarks.suite import Suite

    if training is not None:
        distinct = tuple(dict.fromkeys(training.prompts))
        judge_all(Suite(config.prompts or "this training", distinct, "training"), pool, trained)
    if suite is not None:
        try:
            judge_all(suite, pool)
        except UsageError as error:
            raise UsageError(
                f"The run would be evaluated on {config.evaluation.suite}; name another suite with --set "
                f"evaluation.suite=NAME, or none with --set evaluation.every=0. {error}"
            ) from None


def check_folder(config: Config, folder: Path, training: TrainingPrompts | None, *, fresh: bool) -> None:
    """Nobody is training in the run folder, and it holds no other run."""
    from dgpo.contents import prompts_contents
    from dgpo.precision import AUTO
    from dgpo.run import Run

    run = Run(folder)
    run.refuse_busy()
    if config.training.dtype == AUTO and not fresh and run.precision != AUTO:
        config = config.in_precision(run.precision)
    contents = {} if training is None else {"prompts": prompts_contents(prompt.id for prompt in training.prompts)}
    run.refuse_other(config, contents, fresh=fresh)
