"""`dgpo eval`: a model, or a folder of images, measured over a whole suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluation_result import show_summary, tell_overlap
from cli.evaluation_source import EvaluationSource, assist, leads, run
from cli.launch import has_to_launch, launch, leave_with_launcher
from cli.model import choose_model
from cli.options import (
    DEFAULT_MODEL,
    AsJson,
    BaseOfRun,
    DataFolder,
    DrawingDtype,
    JudgeTexts,
    LoraName,
    ModelName,
    Offloaded,
    Quantized,
    RewardSeconds,
    RewardSets,
    SamplingSets,
    WeightFolders,
    Workers,
    check_deadline,
    parse_sampling,
)
from cli.peers import join_peers
from cli.screen import hear_rewards, say
from cli.suites import find_suite
from dgpo.models.holding import Holding
from rewards.errors import UsageError
from rewards.exits import SOME_FAILED
from rewards.files import check_writable
from rewards.parse import parse_judges
from rewards.reward import DEADLINE_S
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from benchmarks.suite import Suite

RESULTS = Path("runs/eval")


def evaluate(
    suite: Annotated[str, typer.Option("--suite", metavar="NAME|FILE", help="Prompts; see `dgpo suites ls`.")],
    model: ModelName = None,
    base: BaseOfRun = None,
    lora: LoraName = None,
    quantize: Quantized = "none",
    offload: Offloaded = False,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Score these images in place of a model's.")
    ] = None,
    reward: JudgeTexts = None,
    reward_set: RewardSets = None,
    weights: WeightFolders = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="Images per prompt, default 1; with --images, all that are there."),
    ] = None,
    sets: SamplingSets = None,
    dtype: DrawingDtype = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Default runs/eval/SUITE-MODEL.")
    ] = None,
    max_failed: Annotated[int, typer.Option("--max-failed", min=0, help="Images that may stay without a score.")] = 0,
    data: DataFolder = None,
    workers: Workers = 1,
    reward_seconds: RewardSeconds = DEADLINE_S,
    num_processes: Annotated[
        int, typer.Option("--num-processes", min=1, help="Processes (GPUs, or CPU cores) that share the work.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure a model over a suite; the same command goes on where a killed one stood."""
    from benchmarks.harness.requirements import check_prompts
    from rewards.pool import ScoringPool

    check_deadline(reward_seconds, workers)
    if model is not None and images is not None:
        raise UsageError("Give either --model, which draws, or --images, which are scored as they are.")
    sampling = parse_sampling(sets)
    given = sampling, base, lora, None if dtype == "auto" else dtype, None if quantize == "none" else quantize, offload
    if images is not None and any(given):
        raise UsageError(
            "--set, --dtype, --base, --lora, --quantize and --offload are for a model that draws; the --images are "
            "scored as they are."
        )
    launching = has_to_launch(num_processes)
    leave_with_launcher()
    peers = join_peers()
    chosen = find_suite(suite, data)
    speaks = leads(peers) and not launching
    hear_rewards(aloud=speaks)
    if speaks:
        for note in chosen.notes:
            say(note)
        check_writable(output or RESULTS, folder=True)
    specs = choose_rewards(chosen, reward, reward_set, weights)
    with ScoringPool(specs, workers, deadline_s=reward_seconds) as pool:
        if leads(peers):
            check_prompts(chosen, pool)
        if images is not None:
            made = EvaluationSource.of_folder(images, chosen, seeds)
        else:
            named = model if speaks else model or DEFAULT_MODEL
            choice = choose_model(named, base, lora, Holding(quantize, offload))
            made = EvaluationSource.of_model(choice, sampling, dtype, seeds or 1)
        place = output or RESULTS / f"{chosen.name}-{made.name}"
        folder = place.absolute()  # a reward may change the working directory
        if peers is not None and not leads(peers):
            assist(chosen, made, folder, pool, peers)
            return
        summary = None if launching else run(chosen, made, folder, pool, peers)
    if summary is None:  # the rewards were only tried here, and those of the processes take their place
        raise typer.Exit(launch(made.useful_processes(num_processes, chosen)))
    tell_overlap(folder)
    show_summary(replace(summary, folder=place), chosen, as_json=as_json)
    if summary.failed > max_failed:
        say(f"{summary.failed} of {summary.images} images could not be scored, and --max-failed is {max_failed}")
        raise typer.Exit(SOME_FAILED)


def choose_rewards(
    suite: Suite, texts: list[str] | None, sets: list[str] | None, weights: list[str] | None
) -> list[RewardSpec]:
    """The rewards that were named, otherwise the suite's own.

    Raises:
        UsageError: none was named and the suite has none.
    """
    specs = parse_judges(texts or suite.default_rewards, sets or (), weights or ())
    if not specs:
        raise UsageError(f"The suite {suite.name} brings no reward of its own; name one with --reward.")
    return specs
