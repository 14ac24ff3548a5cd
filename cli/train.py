"""`dgpo train`: what is wanted, in one config; on one process or many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.default_recipe import default_recipe, fitting_evaluation
from cli.dry_run import describe_training
from cli.launch import has_to_launch, launch, leave_with_launcher
from cli.options import DEFAULT_MODEL, DataFolder, RewardSets, RewardTexts, WeightFolders
from cli.screen import hear_rewards, say
from cli.training import run_training
from cli.training_checks import check_processes, check_settings, check_sizes
from cli.trust import check_trust
from dgpo.models.find import HubId
from dgpo.processes import find_place
from rewards.errors import UsageError
from rewards.files import check_writable

if TYPE_CHECKING:
    from dgpo.config import Config
    from dgpo.reward_choice import RewardChoice


def train(
    reward: RewardTexts = None,
    reward_set: RewardSets = None,
    weights: WeightFolders = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="tiny (the embedded model, the default), a diffusers folder or a hub id, "
            "OWNER/NAME[@REVISION] (`dgpo models ls`)."
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="A named recipe (`dgpo recipes ls`) or a YAML file.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="How to learn (`dgpo algorithms ls`); dgpo by default.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="Any setting; repeatable.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="A prompt file or suite to train on.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Draw with the untouched base model in every iteration.")
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="RESULTS_DIR", help="Train on the images that `dgpo eval` left there."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The run folder; the same command continues it.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Iterations: one rollout with its updates each.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness follows from it.")] = None,
    max_failed: Annotated[int | None, typer.Option(min=0, help="Failed scores allowed in an iteration.")] = None,
    stop_when: Annotated[
        list[str] | None,
        typer.Option(
            "--stop-when",
            metavar="EXPR",
            help="End the run (saved, exit 4) when a held-out mean has changed so since step 0: aesthetic<-0.1, "
            "near_duplicates>0.2; repeatable. --set evaluation.rewards='[NAME]' measures more.",
        ),
    ] = None,
    num_processes: Annotated[int, typer.Option(min=1, help="Processes (GPUs, or CPU cores) on this machine.")] = 1,
    data: DataFolder = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run in the output folder and start over.")] = False,
    trust_run: Annotated[
        bool,
        typer.Option(
            "--trust-run", help="Use Python files and servers that only the --recipe names (somebody's run?)."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="With --dry-run: load the model, time it for about 20 s, and say what the run will take."
        ),
    ] = False,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--gpu-memory",
            metavar="GIB",
            min=1,
            help="With --dry-run: plan for such GPUs, not for this machine.",
        ),
    ] = None,
) -> None:
    """Train a model on groups of its own images, scored by rewards."""
    from dgpo.config import load_config
    from dgpo.settings import parse_setting

    given = {
        name: value
        for name, value in {
            "rewards": reward,
            "reward_set": reward_set,
            "weights": weights,
            "model": model,
            "algorithm": algorithm,
            "prompts": prompts,
            "data": None if data is None else str(data),
            "steps": steps,
            "seed": seed,
            "max_failed": max_failed,
            "evaluation.stop_when": stop_when,
            **_source(offline, from_),
        }.items()
        if value is not None
    }
    if recipe is None:
        given.update(fitting_evaluation(model, reward))
    place = find_place()
    speaks = place.rank == 0 and not has_to_launch(num_processes)
    config = load_config(
        recipe or default_recipe(model, reward, algorithm), given, set_ or [], say if speaks else _keep_still
    )
    trusted = check_trust(
        config, [given, [parse_setting(text)[1] for text in set_ or []]], str(recipe), trust=trust_run
    )
    if gpu_memory is not None and not dry_run:
        raise UsageError("--gpu-memory is for --dry-run, which plans; a training takes the devices that there are.")
    if measure and not dry_run:
        raise UsageError("--measure is for --dry-run; what a training took stands in its run.json under `spent`.")
    if measure and gpu_memory is not None:
        raise UsageError("--measure times this machine, and --gpu-memory plans for another; give one of them.")
    rewards = check_settings(config)
    folder = (output or Path("runs") / _run_name(config, rewards)).absolute()  # a reward may change the directory
    check_writable(folder, folder=True)
    check_processes(config, max(num_processes, place.size))
    if has_to_launch(num_processes) and not dry_run:
        raise typer.Exit(launch(num_processes))
    leave_with_launcher()
    check_sizes(config)
    hear_rewards(aloud=place.rank == 0)
    if place.rank == 0:
        _tell_turned_round(rewards)
    if dry_run:
        describe_training(config, rewards, folder, num_processes, gpu_memory, fresh=fresh, measure=measure)
        return
    if model is None and config.model == DEFAULT_MODEL and place.rank == 0:
        from dgpo.models.tiny.record import notice

        say("training the embedded model `tiny`; --model takes a diffusers folder or hub id (`dgpo models ls`)")
        say(notice())
    code = run_training(config, rewards, folder, trusted, fresh=fresh)
    if code:
        raise typer.Exit(code)


def _source(offline: bool, recorded: Path | None) -> dict[str, Any]:
    """The settings of --offline and --from."""
    if offline and recorded is not None:
        raise UsageError("--offline draws with the base model and --from reads a results folder; give one of them.")
    if recorded is not None:
        return {"source.kind": "recorded", "source.folder": str(recorded.absolute())}
    return {"source.kind": "offline"} if offline else {}


def _keep_still(sentence: str) -> None:
    """What the main process says, the others do not."""


def _tell_turned_round(rewards: RewardChoice) -> None:
    for spec in rewards.trained:
        if spec.train_weight < 0:
            say(f"{spec.key} has the weight {spec.train_weight:g}, so it is trained against: lower scores are better")


def _run_name(config: Config, rewards: RewardChoice) -> str:
    model = Path(config.model).name if os.path.isdir(config.model) else HubId.of(config.model).short
    return "-".join([model, config.algorithm, *(spec.name for spec in rewards.trained)])
