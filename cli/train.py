"""`dgpo train`: read what is wanted, put the parts together, train."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.launch import launch, launched
from cli.options import DEFAULT_MODEL, DataFolder, RewardSets, RewardTexts, WeightFolders
from cli.screen import format_number, say
from rewards.errors import UsageError

if TYPE_CHECKING:
    from cli.progress import Progress
    from dgpo.config import Config
    from dgpo.parallel import Ranks
    from rewards.prompt import Prompt

SAMPLED_PROMPTS = 6


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
    num_processes: Annotated[int, typer.Option(min=1, help="Processes (GPUs, or CPU cores) on this machine.")] = 1,
    data: DataFolder = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run in the output folder and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> None:
    """Train a model on groups of its own images, scored by rewards."""
    from dgpo.config import load_config

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
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    config = load_config(recipe or _default_recipe(model, reward), given, set_ or [])
    _check_model(config)
    _check_rewards(config)
    folder = output or Path("runs") / _run_name(config)
    if num_processes > 1 and not launched() and not dry_run:
        raise typer.Exit(launch(num_processes, sys.argv[1:]))
    if dry_run:
        _describe(config, folder, _load_prompts(config, data), num_processes)
        return
    if model is None and config.model == DEFAULT_MODEL and os.environ.get("RANK", "0") == "0":
        from dgpo.models.tiny.record import notice

        say("training the embedded model `tiny`; --model takes a diffusers folder or hub id of the SD3 family")
        say(notice())
    _train(config, folder, data, fresh=fresh)


def _train(config: Config, folder: Path, data: Path | None, *, fresh: bool) -> None:
    import torch

    from cli.model import hush_loading
    from cli.provenance import provenance
    from dgpo.load import load_policy
    from dgpo.parallel import Ranks
    from dgpo.prompts import PromptStream
    from dgpo.run import Run
    from dgpo.trainer import Interrupted, Trainer
    from rewards.pool import ScoringPool
    from rewards.registry import check_buildable

    prompts = _load_prompts(config, data)
    check_buildable(config.reward_specs)
    _check_prompts(config, prompts)
    ranks = Ranks()
    torch.set_num_threads(_threads(config, ranks))
    run = Run(folder)
    with _locked(run, ranks):
        continues = _begin(run, config, ranks, provenance(sys.argv), fresh=fresh)
        hush_loading()
        policy = load_policy(config.model, config, ranks.device, trainable=True)
        with ScoringPool(config.reward_specs, workers=config.workers) as pool, _progress(config, ranks) as progress:
            trainer = Trainer(
                config,
                policy=policy,
                specs=config.reward_specs,
                pool=pool,
                prompts=PromptStream(prompts, config.seed),
                sample_prompts=_sample_prompts(config, prompts),
                run=run,
                ranks=ranks,
                listeners=_listeners(config, run, pool, progress, data),
            )
            try:
                trainer.train(resume=continues)
            except Interrupted:
                progress.say(f"stopped and saved at step {trainer.progress.step}; the same command goes on from there")
                raise typer.Exit(130) from None
    if ranks.main:
        say(f"trained {config.steps} iterations; see {folder / 'curve.png'} and {folder / 'samples'}")
        print(folder)


def _listeners(config: Config, run: Any, pool: Any, progress: Progress, data: Path | None) -> Any:
    from cli.eval import evaluate_policy, find_suite
    from dgpo.sample import evaluation_sampling
    from dgpo.trainer import Listeners

    asked = _watch_signals(progress)
    evaluation = config.evaluation
    evaluate: Callable[[int, Any], dict[str, Any]] | None = None
    if evaluation.suite is not None and evaluation.every > 0:
        suite = find_suite(evaluation.suite, data)

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
                specs=config.reward_specs,
                pool=pool,
                folder=run.folder / "evaluations" / f"step-{step:06d}",
                run_name=f"{run.folder.name}@{step}",
                trained_on=[spec.key for spec in config.reward_specs],
            )
            for key, value in result.items():
                progress.say(
                    f"held out at step {step}: {key} {format_number(value['mean'])} "
                    f"[{format_number(value['ci_low'])}, {format_number(value['ci_high'])}]"
                )
            return result

        evaluate = measure

    return Listeners(
        on_step=lambda metrics: progress.update(metrics["step"], _summary(metrics)),
        on_note=progress.say,
        evaluate=evaluate,
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
    """The first Ctrl-C (or SIGTERM) asks for a stop after this iteration; a second Ctrl-C ends at once."""
    asked = {"stop": False}

    def ask(number: int, _frame: Any) -> None:
        if asked["stop"] and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked["stop"] = True
        progress.say("finishing this iteration, then saving (Ctrl-C again stops at once, without saving)")

    for number in (signal.SIGINT, signal.SIGTERM):
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


def _begin(run: Any, config: Config, ranks: Ranks, facts: dict[str, Any], *, fresh: bool) -> bool:
    """Open the run folder on the main rank; every rank learns whether it continues."""
    from dgpo.plan import describe_passes, planned_passes

    continues = None
    if ranks.main:
        facts = {
            **facts,
            "processes": ranks.size,
            "passes": planned_passes(config),
            "reward_provenance": _reward_facts(config),
        }
        continues = run.begin(config, facts, fresh=fresh)
        say(f"{'continuing' if continues else 'training'} in {run.folder}; {describe_passes(planned_passes(config))}")
    return bool(ranks.gather([continues])[0])


def _reward_facts(config: Config) -> dict[str, Any]:
    from rewards.registry import load, provenance_of

    return {spec.key: provenance_of(load(spec)) for spec in config.reward_specs}


def _threads(config: Config, ranks: Ranks) -> int:
    """Threads for torch on a CPU: what processes and scoring workers leave; sharing a core slows both manifold."""
    from cli.provenance import available_cores

    processes = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size))
    return max(1, available_cores() // processes - config.workers)


def _check_model(config: Config) -> None:
    """The model's name makes sense, before prompts are asked for that it may not need."""
    from cli.model import choose_model

    if choose_model(config.model).run is not None:
        raise UsageError(
            f"{config.model} is a run, not a base model. To go on with it, give its own command again "
            "(more --steps makes it longer)."
        )


def _check_rewards(config: Config) -> None:
    from rewards.registry import check_trainable

    if not config.rewards:
        raise UsageError(
            "Say what to train on: --reward NAME, for instance --reward ocr. `dgpo rewards ls` lists them."
        )
    check_trainable(config.reward_specs)


def _check_prompts(config: Config, prompts: list[Prompt]) -> None:
    """Every reward must be able to judge every training prompt; all that are wrong are named at once."""
    from benchmarks.evaluate import check_prompts
    from benchmarks.suite import Suite
    from rewards.registry import load

    distinct = tuple(dict.fromkeys(prompts))
    check_prompts(
        Suite(config.prompts or "training prompts", distinct, "training"), [load(spec) for spec in config.reward_specs]
    )


def _load_prompts(config: Config, data: Path | None) -> list[Prompt]:
    """The training prompts: named, the embedded model's own, or the reward's published training list."""
    from cli.eval import find_suite
    from dgpo.models.tiny.words import sign_prompts, training_words
    from rewards.prompt import Prompt, read_prompts

    if config.prompts is not None:
        path = Path(config.prompts)
        return read_prompts(path) if path.exists() else list(find_suite(config.prompts, data).prompts)
    if config.model == DEFAULT_MODEL:
        return [Prompt(text) for text in sign_prompts(training_words())]
    folder = data or (Path(os.environ["DGPO_DATA_DIR"]) if "DGPO_DATA_DIR" in os.environ else None)
    published = [folder / "dataset" / spec.name / "train.txt" for spec in config.reward_specs] if folder else []
    for path in published:
        if path.is_file():
            return read_prompts(path)
    looked = f" (looked for {', '.join(map(str, published))})" if published else ""
    raise UsageError(
        f"Say which prompts to train on: --prompts FILE, or --data DIR with the reward's training list{looked}."
    )


def _sample_prompts(config: Config, prompts: list[Prompt]) -> list[Prompt]:
    """Prompts of the sample grids: held-out words for the embedded model, else the first training prompts."""
    from dgpo.models.tiny.words import held_out_words, sign_prompts
    from rewards.prompt import Prompt

    if config.model == DEFAULT_MODEL and config.prompts is None:
        return [Prompt(text) for text in sign_prompts(held_out_words())[:SAMPLED_PROMPTS]]
    return prompts[:SAMPLED_PROMPTS]


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
        f"There is no recipe for the reward {names[0]} yet; name one with --recipe ({', '.join(recipe_names())})."
    )


def _run_name(config: Config) -> str:
    model = Path(config.model).name
    return "-".join([model, config.algorithm, *(spec.name for spec in config.reward_specs)])


def _describe(config: Config, folder: Path, prompts: list[Prompt], processes: int) -> None:
    """`--dry-run`: settings, cost, geometry, times; nothing is loaded or written."""
    import yaml

    from dgpo.plan import describe_geometry, describe_passes, planned_passes

    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
    say(f"would train in {folder} on {len(prompts)} prompts, for instance: {prompts[0].text}")
    say(describe_geometry(config, processes))
    say(describe_passes(planned_passes(config)))
