"""`dgpo train`: read what is wanted, put the parts together, train."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.launch import has_to_launch, launch, leave_with_launcher, signals_to_heed
from cli.options import DEFAULT_MODEL, DataFolder, RewardSets, RewardTexts, WeightFolders
from cli.screen import format_number, hear_rewards, leave_terminal, say
from cli.training_checks import check_processes, check_settings, check_training, measured_specs
from cli.training_prompts import (
    asks_for_objects,
    file_for_evaluation,
    file_for_training,
    files_to_fetch,
    find_evaluation_suite,
    find_training_prompts,
)
from cli.trust import check_trust
from dgpo.processes import find_place
from rewards.errors import UsageError
from rewards.files import check_shared, check_writable, sha256

if TYPE_CHECKING:
    from cli.progress import Progress
    from dgpo.config import Config
    from dgpo.parallel import Ranks
    from dgpo.precision import Settled
    from dgpo.run import Run
    from rewards.pool import ScoringPool
    from rewards.prompt import Prompt

GATE_FAILED = 4
OTHER_RECIPE = "ocr"


def train(
    reward: RewardTexts = None,
    reward_set: RewardSets = None,
    weights: WeightFolders = None,
    model: Annotated[
        str | None,
        typer.Option(help="tiny (the embedded model, the default), a diffusers folder or a hub id of the SD3 family."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="A named recipe (`dgpo recipes ls`) or a YAML file.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="dgpo.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="Any setting; repeatable.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="A prompt file or suite to train on.")] = None,
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
) -> None:
    """Train a model on groups of its own images, scored by rewards."""
    from dgpo.config import load_config
    from dgpo.settings import parse_setting

    overrides = {
        "rewards": reward,
        "reward_set": reward_set,
        "weights": weights,
        "model": model,
        "algorithm": algorithm,
        "prompts": prompts,
        "steps": steps,
        "seed": seed,
        "max_failed": max_failed,
        "evaluation.stop_when": stop_when,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    if recipe is None:
        given.update(_fitting_evaluation(model, reward))
    config = load_config(recipe or _default_recipe(model, reward), given, set_ or [])
    trusted = check_trust(
        config, [given, [parse_setting(text)[1] for text in set_ or []]], str(recipe), trust=trust_run
    )
    check_settings(config)
    folder = (output or Path("runs") / _run_name(config)).absolute()  # a reward may change the working directory
    check_writable(folder, folder=True)
    launching, place = has_to_launch(num_processes), find_place()
    check_processes(config, max(num_processes, place.size))
    if launching and not dry_run:
        raise typer.Exit(launch(num_processes))
    leave_with_launcher()
    hear_rewards(aloud=place.rank == 0)
    if place.rank == 0:
        _tell_turned_round(config)
    if dry_run:
        _describe(config, folder, data, num_processes, fresh=fresh)
        return
    if model is None and config.model == DEFAULT_MODEL and place.rank == 0:
        from dgpo.models.tiny.record import notice

        say("training the embedded model `tiny`; --model takes a diffusers folder or hub id of the SD3 family")
        say(notice())
    _train(config, folder, data, trusted, fresh=fresh)


def _tell_turned_round(config: Config) -> None:
    for spec in config.reward_specs:
        if spec.train_weight < 0:
            say(f"{spec.key} has the weight {spec.train_weight:g}, so it is trained against: lower scores are better")


def _train(config: Config, folder: Path, data: Path | None, trusted: Sequence[str], *, fresh: bool) -> None:
    from cli.libraries import hushed_loading
    from cli.provenance import provenance
    from cli.threads import share_cores
    from dgpo.guards import GuardTripped
    from dgpo.load import load_policy
    from dgpo.parallel import Ranks
    from dgpo.prompts import PromptStream
    from dgpo.run import Run
    from dgpo.trainer import Interrupted, Trainer
    from rewards.pool import ScoringPool
    from rewards.registry import check_working

    threads = share_cores(config.workers)
    training = find_training_prompts(config, data)
    check_training(config, folder, training, find_evaluation_suite(config, data), fresh=fresh)
    ranks = Ranks(on_note=say)
    if ranks.main:
        if trusted:
            say(f"--trust-run: {', '.join(trusted)} will be used, though only the recipe names it")
        check_working(measured_specs(config))
    run = Run(folder)
    with _locked(run, ranks):
        settled = _settle_precision(config, run, ranks, fresh=fresh)
        config = config.in_precision(settled.dtype)
        facts = {
            **provenance(sys.argv),
            "threads": threads,
            "precision": asdict(settled),
            "prompts": dict(training.facts),
            "trusted": list(trusted),
        }
        with hushed_loading():
            policy = load_policy(config.model, config, ranks.device, trainable=True)
        continues = _begin(run, config, ranks, facts, training.prompts, fresh=fresh)
        with (
            ScoringPool(config.reward_specs, workers=config.workers, deadline_s=config.watch.reward_seconds) as pool,
            _evaluation_pool(config, pool) as evaluation_pool,
            _progress(config, ranks) as progress,
        ):
            trainer = Trainer(
                config,
                policy=policy,
                specs=config.reward_specs,
                pool=pool,
                prompts=PromptStream(training.prompts, config.seed),
                sample_prompts=training.samples,
                run=run,
                ranks=ranks,
                listeners=_listeners(config, run, evaluation_pool, progress, data),
            )
            try:
                trainer.train(resume=continues)
            except Interrupted:
                progress.say(f"stopped and saved at step {trainer.progress.step}; the same command goes on from there")
                raise typer.Exit(130) from None
            except GuardTripped as reason:
                progress.say(
                    f"{reason} It is saved at step {trainer.progress.step} of {config.steps}; the same command with"
                    " another --stop-when, or none, goes on from there"
                )
                raise typer.Exit(GATE_FAILED) from None
    if ranks.main:
        say(_tell_end(trainer.progress.step, config.steps, folder))
        print(folder)


def _tell_end(done: int, asked: int, folder: Path) -> str:
    if done > asked:
        return f"{folder} has trained {done} iterations already, so there was nothing to do for --steps {asked}"
    return f"trained {done} iterations; see {folder / 'curve.png'} and {folder / 'samples'}"


def _listeners(config: Config, run: Any, pool: Any, progress: Progress, data: Path | None) -> Any:
    from cli.eval import evaluate_policy, find_suite, tell_mean
    from dgpo.sample import evaluation_sampling
    from dgpo.trainer import Listeners

    asked = _watch_signals(progress)
    evaluation = config.evaluation
    evaluate: Callable[[int, Any], dict[str, Any]] | None = None
    picture: Callable[[int], dict[str, float | None]] | None = None
    if evaluation.suite is not None and evaluation.every > 0:
        from benchmarks.reading.image_statistics import measure_pictures

        suite = find_suite(evaluation.suite, data)

        def folder_of(step: int) -> Path:
            return run.folder / "evaluations" / f"step-{step:06d}"

        def measure(step: int, policy: Any) -> dict[str, Any]:
            progress.say(
                f"evaluating {min(evaluation.prompts, len(suite.prompts))} held-out prompts of {suite.name} "
                f"at step {step}"
            )
            result = evaluate_policy(
                policy,
                evaluation_sampling(config),
                suite,
                prompts=evaluation.prompts,
                seeds=range(evaluation.seeds),
                specs=config.evaluation_specs,
                pool=pool,
                folder=folder_of(step),
                run_name=f"{run.folder.name}@{step}",
                trained_on=[spec.key for spec in config.reward_specs],
            )
            for key, value in result.items():
                progress.say(f"held out at step {step}: {key} {tell_mean(value)}")
            return result

        evaluate, picture = measure, lambda step: measure_pictures(folder_of(step))

    return Listeners(
        on_step=lambda metrics: progress.update(metrics["step"], _summary(metrics)),
        on_note=progress.say,
        evaluate=evaluate,
        picture=picture,
        stop_asked=lambda: asked["stop"],
    )


def _summary(metrics: dict[str, Any]) -> str:
    """Reward, spread, dead groups, the parts of a mix, KL and where the time went, in one line."""
    seconds = metrics["seconds"]
    failed = f", {metrics['failed']} failed" if metrics["failed"] else ""
    parts = metrics["rewards"] if len(metrics["rewards"]) > 1 else {}
    mixed = "".join(f", {key} {format_number(mean)}" for key, mean in parts.items())
    return (
        f"reward {metrics['reward']:.3f} (spread {metrics['spread']:.3f}, dead groups {metrics['dead_groups']:.0%}"
        f"{failed}){mixed}, kl {metrics['kl']:.4f}, "
        f"draw/score/learn {seconds['draw']:.1f}/{seconds['score']:.1f}/{seconds['learn']:.1f} s"
    )


def _watch_signals(progress: Progress) -> dict[str, bool]:
    """The first Ctrl-C (or SIGTERM, or a closed terminal) asks for a stop after this iteration; the same again ends at
    once, but for terminals, whose end is told twice."""
    asked = {"stop": False}
    heard: set[int] = set()

    def ask(number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        elif number in heard:
            raise KeyboardInterrupt
        heard.add(number)
        asked["stop"] = True
        progress.say("finishing this iteration, then saving (Ctrl-C again stops at once, without saving)")

    for number in signals_to_heed():
        signal.signal(number, ask)
    return asked


@contextmanager
def _progress(config: Config, ranks: Ranks) -> Iterator[Progress]:
    """The main rank speaks; the others are silent."""
    from cli.progress import Progress

    stream = sys.stderr if ranks.main else open(os.devnull, "w")  # noqa: SIM115  (lives as long as the process)
    with Progress("training", config.steps, unit="iterations", stream=stream) as progress:
        yield progress


@contextmanager
def _locked(run: Any, ranks: Ranks) -> Iterator[None]:
    if not ranks.main:
        yield
        return
    with run.lock():
        yield


def _settle_precision(config: Config, run: Run, ranks: Ranks, *, fresh: bool) -> Settled:
    """In which precision the run computes, decided and said by the main rank; one that is continued keeps its own."""
    from dgpo.precision import examine, settle

    settled = None
    if ranks.main:
        earlier = "auto" if fresh else run.precision
        settled = settle(config.training.dtype, examine(ranks.device), earlier=earlier, since="as this run began")
        say(f"precision: {settled}")
    return ranks.gather([settled])[0]


def _begin(
    run: Run, config: Config, ranks: Ranks, facts: dict[str, Any], prompts: Sequence[Prompt], *, fresh: bool
) -> bool:
    """Open the run folder on the main rank; every rank sees it and learns whether it continues."""
    from benchmarks.reading.overlap import write_training_prompts
    from cli.training_facts import describe_training, tell_changes
    from dgpo.plan import describe_passes, planned_passes
    from dgpo.run import read_facts

    continues, record = None, ""
    if ranks.main:
        facts = {**facts, **describe_training(config, prompts, processes=ranks.size)}
        before = {} if fresh else read_facts(run.folder)
        continues = run.begin(config, facts, fresh=fresh, on_note=say)
        write_training_prompts(run.folder, (prompt.text for prompt in prompts))
        say(f"{'continuing' if continues else 'training'} in {run.folder}; {describe_passes(planned_passes(config))}")
        for sentence in tell_changes(before, facts) if continues else ():
            say(sentence)
        record = sha256(run.folder / "run.json")
    continues, record = ranks.gather([(continues, record)])[0]
    check_shared(run.folder / "run.json", record)
    return bool(continues)


@contextmanager
def _evaluation_pool(config: Config, pool: ScoringPool) -> Iterator[ScoringPool]:
    """The training's own pool, or one that scores by what only evaluations measure besides."""
    from rewards.pool import ScoringPool

    if not (config.evaluation.on and config.evaluation.rewards):
        yield pool
        return
    deadline_s = config.watch.reward_seconds
    with ScoringPool(config.evaluation_specs, workers=config.workers, deadline_s=deadline_s) as wider:
        yield wider


def _default_recipe(model: str | None, rewards: list[str] | None) -> str:
    """`tiny` for the embedded model; for others the recipe named like the first reward."""
    from dgpo.config import recipe_names
    from rewards.spec import parse_rewards

    if model is None or model == DEFAULT_MODEL:
        return "tiny"
    names = [spec.name for spec in parse_rewards(rewards or ["ocr"])]
    if names[0] in recipe_names():
        return names[0]
    raise UsageError(
        f"There is no recipe for the reward {names[0]}, so say which settings to start from: --recipe {OTHER_RECIPE} "
        f"suits most rewards (others: {', '.join(sorted(set(recipe_names()) - {OTHER_RECIPE}))})."
    )


def _fitting_evaluation(model: str | None, rewards: list[str] | None) -> dict[str, Any]:
    """The default recipe evaluates on signs; a reward that judges objects only needs prompts that name some."""
    from rewards.spec import parse_rewards

    if model not in (None, DEFAULT_MODEL) or not asks_for_objects([one.name for one in parse_rewards(rewards or [])]):
        return {}
    return {"evaluation.suite": "geneval"}


def _run_name(config: Config) -> str:
    model = Path(config.model).name
    return "-".join([model, config.algorithm, *(spec.name for spec in config.reward_specs)])


def _describe(config: Config, folder: Path, data: Path | None, processes: int, *, fresh: bool) -> None:
    """`--dry-run`: settings, cost, geometry, then all that the training itself would refuse; nothing is loaded, fetched
    or written."""
    from cli.model import pick_device
    from dgpo.plan import describe_geometry, describe_passes, planned_passes
    from dgpo.precision import AUTO, examine, settle
    from dgpo.run import Run
    from dgpo.settings import dump_settings
    from rewards.secrets import hide_secrets

    print(hide_secrets(dump_settings(config.model_dump(mode="json"))), end="")
    earlier = AUTO if fresh else Run(folder).precision
    settled = settle(config.training.dtype, examine(pick_device()), earlier=earlier, since="as this run began")
    say(f"precision: {settled}")
    say(describe_geometry(config, processes))
    say(describe_passes(planned_passes(config)))
    absent = files_to_fetch(config, data)
    training = None if file_for_training(config) in absent else find_training_prompts(config, data)
    suite = None if file_for_evaluation(config) in absent else find_evaluation_suite(config, data)
    check_training(config, folder, training, suite, fresh=fresh)
    for file in absent:
        say(f"would fetch {file.url}")
    on = training.describe() if training is not None else "the prompts fetched"
    say(f"would train in {folder} on {on}")
