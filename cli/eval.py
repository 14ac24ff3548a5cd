"""`dgpo eval`: a model, or a folder of images, measured over a whole suite; and the same from within training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exits import INTERRUPTED, SOME_FAILED
from cli.geneval import describe_geneval, show_geneval
from cli.launch import has_to_launch, launch, leave_with_launcher
from cli.model import Choice, choose_model, describe_sampler, load_choice
from cli.options import (
    DEFAULT_MODEL,
    AsJson,
    BaseOfRun,
    DataFolder,
    DrawingDtype,
    JudgeTexts,
    ModelName,
    RewardSeconds,
    RewardSets,
    SamplingSets,
    WeightFolders,
    Workers,
    check_deadline,
    parse_sampling,
)
from cli.peers import Peers, join_peers
from cli.progress import Progress
from cli.provenance import provenance
from cli.screen import format_number, hear_rewards, print_json, print_table, say
from cli.suites import find_suite
from cli.threads import share_cores
from rewards.errors import UsageError
from rewards.files import check_writable
from rewards.parse import parse_judges
from rewards.reward import DEADLINE_S
from rewards.shown import shown
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from benchmarks.harness.images import Cell, Draw
    from benchmarks.harness.request import Request
    from benchmarks.harness.summary import Summary
    from benchmarks.suite import Suite
    from dgpo.policy import Policy, Who
    from dgpo.precision import Wanted
    from dgpo.sections import Sampling
    from rewards.pool import ScoringPool
    from rewards.prompt import Prompt

RESULTS = Path("runs/eval")


def evaluate(
    suite: Annotated[str, typer.Option("--suite", metavar="NAME|FILE", help="Prompts; see `dgpo suites ls`.")],
    model: ModelName = None,
    base: BaseOfRun = None,
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
    from benchmarks.harness.evaluate import check_prompts
    from rewards.pool import ScoringPool

    check_deadline(reward_seconds, workers)
    if model is not None and images is not None:
        raise UsageError("Give either --model, which draws, or --images, which are scored as they are.")
    sampling = parse_sampling(sets)
    if images is not None and (sampling or dtype != "auto" or base is not None):
        raise UsageError("--set, --dtype and --base are for a model that draws; the --images are scored as they are.")
    launching = has_to_launch(num_processes)
    leave_with_launcher()
    peers = join_peers()
    chosen = find_suite(suite, data)
    speaks = _leads(peers) and not launching
    hear_rewards(aloud=speaks)
    if speaks:
        for note in chosen.notes:
            say(note)
    if speaks:
        check_writable(output or RESULTS, folder=True)
    specs = choose_rewards(chosen, reward, reward_set, weights)
    with ScoringPool(specs, workers, deadline_s=reward_seconds) as pool:
        if _leads(peers):
            check_prompts(chosen, pool)
        if images is not None:
            made = _Source.of_folder(images, chosen, seeds)
        else:
            choice = choose_model(model if speaks else model or DEFAULT_MODEL, base)
            made = _Source.of_model(choice, sampling, dtype, seeds or 1)
        place = output or RESULTS / f"{chosen.name}-{made.name}"
        folder = place.absolute()  # a reward may change the working directory
        if peers is not None and not _leads(peers):
            _assist(chosen, made, folder, pool, peers)
            return
        summary = None if launching else _run(chosen, made, folder, pool, peers)
    if summary is None:  # the rewards were only tried here, and those of the processes take their place
        raise typer.Exit(launch(_as_many_as_blocks(num_processes, chosen, made.seeds)))
    _tell_overlap(folder)
    show_summary(replace(summary, folder=place), chosen, as_json=as_json)
    if summary.failed > max_failed:
        say(f"{summary.failed} of {summary.images} images could not be scored, and --max-failed is {max_failed}")
        raise typer.Exit(SOME_FAILED)


def _tell_overlap(folder: Path) -> None:
    """Say how many of these prompts the model was trained on, where that is known."""
    from benchmarks.reading.findings import UNKNOWN, find_overlap
    from benchmarks.reading.results import read_results

    finding = find_overlap(read_results([folder]))
    if finding.verdict != UNKNOWN:
        say(finding.sentence)


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


def evaluate_policy(
    policy: Policy,
    sampling: Sampling,
    suite: Suite,
    *,
    specs: Sequence[RewardSpec],
    pool: ScoringPool,
    folder: Path,
    run_name: str,
    trained_on: Sequence[str] | None,
    prompts: int | None = None,
    seeds: Sequence[int] = (0,),
    who: Who | None = None,
    model: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    peers: Peers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, float | int | None]]:
    """Measure a policy in memory, as training does every so often; writes a results folder like `dgpo eval`'s.

    Args:
        pool: an open pool made with `specs`.
        prompts: only the first so many of the suite.
        who: which of the policy's weights draw; without it those that a checkpoint would publish.
        model: facts that tell this model from others, see `cli.model.describe_run_model`; without them its name.
        record: what `provenance` returned when the command began; without it, it is found out now.
        peers: the processes that do this together; each of them calls this, and the main one gets the answer.

    Returns:
        For each reward's key its mean with the 95 % interval, None where nothing was scored, how many failed, and how
        many prompts made what kind of interval.
    """
    from benchmarks.harness.request import Request
    from benchmarks.harness.request import evaluate as measure
    from dgpo.sample import draw_images

    def draw(cells: Sequence[Cell]) -> list[Image | str]:
        return draw_images(policy, [(cell.prompt, cell.seed) for cell in cells], sampling, who=who or policy.published)

    request = Request(
        suite=first_prompts(suite, prompts),
        specs=specs,
        folder=folder,
        run_name=run_name,
        seeds=seeds,
        draw=draw,
        trained_on=trained_on,
        facts={
            **(record or provenance(sys.argv)),
            "model": dict(model or {"name": run_name}),
            "sampler": describe_sampler(policy, sampling),
        },
    )
    summary = measure(request, pool=pool, peers=peers, on_progress=on_progress)
    if summary is None:
        return {}
    names = ("mean", "ci_low", "ci_high", "failed", "prompts", "interval")
    return {row.reward: {name: getattr(row, name) for name in names} for row in summary.rows}


def first_prompts(suite: Suite, count: int | None) -> Suite:
    """The suite's first `count` prompts, under a name that says so.

    A suite whose prompts have tasks (GenEval's, which come task after task) gives the first of each task in turn.
    """
    if count is None or count >= len(suite.prompts):
        return suite
    by_task: dict[str, list[Prompt]] = {}
    for prompt in suite.prompts:
        by_task.setdefault(str(prompt.spec.get("tag")), []).append(prompt)
    if len(by_task) == 1:
        return replace(suite, name=f"{suite.name}[:{count}]", prompts=suite.prompts[:count])
    ordered = [prompt for turn in zip_longest(*by_task.values()) for prompt in turn if prompt is not None]
    return replace(suite, name=f"{suite.name}[:{count} by task]", prompts=tuple(ordered[:count]))


@dataclass(frozen=True)
class _Source:
    """Where the images of one evaluation come from; `load` gives the drawing function with the record's facts."""

    name: str
    seeds: Sequence[int]
    images: Path | None = None
    choice: Choice | None = None
    sampling: Mapping[str, Any] | None = None
    dtype: Wanted = "auto"

    @classmethod
    def of_model(cls, choice: Choice, sampling: Mapping[str, Any], dtype: Wanted, seeds: int) -> _Source:
        return cls(choice.name, range(seeds), choice=choice, sampling=sampling, dtype=dtype)

    @classmethod
    def of_folder(cls, images: Path, suite: Suite, seeds: int | None) -> _Source:
        from benchmarks.harness.images import FoundImages

        found = FoundImages(images, suite).seeds
        return cls(images.resolve().name, found if seeds is None else range(seeds), images=images)

    def load(
        self, tell: Callable[[str], None] | None = None
    ) -> tuple[Draw | None, tuple[str, ...] | None, dict[str, Any]]:
        """The drawing function (None for a folder), what the model was trained on, and facts of model and sampler.

        Only the one of several processes that speaks (`tell`) has to know what there is to record.
        """
        if self.choice is None:
            return None, None, {}
        loaded = load_choice(self.choice, self.sampling, self.dtype, recorded=tell is not None)
        if tell is not None:
            tell(f"precision: {loaded.precision}")
        facts = {"model": dict(loaded.facts), "sampler": dict(loaded.sampler), "precision": asdict(loaded.precision)}
        return loaded.draw, loaded.trained_on, facts


def _as_many_as_blocks(processes: int, suite: Suite, seeds: Sequence[int]) -> int:
    """Not more processes than there are blocks to draw."""
    from benchmarks.harness.evaluate import BLOCK, blocks_of

    blocks = len(blocks_of(suite, seeds, BLOCK))
    if processes <= blocks:
        return processes
    say(f"images are made {BLOCK} at a time, which gives work to {blocks} of {processes} processes; starting {blocks}")
    return blocks


def _leads(peers: Peers | None) -> bool:
    """Whether this process opens the folder, speaks, and gives the answer."""
    return peers is None or peers.rank == 0


def _assist(suite: Suite, made: _Source, folder: Path, pool: ScoringPool, peers: Peers) -> None:
    """Do a share of the work and be silent: the main process tells what there is to tell."""
    from benchmarks.harness.request import evaluate as measure

    try:
        draw, _, _ = made.load()
        share_cores(pool.workers)
        measure(_request(suite, made, folder, pool, draw), pool=pool, peers=peers)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _run(suite: Suite, made: _Source, folder: Path, pool: ScoringPool, peers: Peers | None) -> Summary:
    from benchmarks.harness.request import evaluate as measure

    draw, trained_on, facts = made.load(say)
    threads = share_cores(pool.workers)
    facts = {**provenance(sys.argv), "processes": peers.size if peers else 1, "threads": threads, **facts}
    request = replace(_request(suite, made, folder, pool, draw), trained_on=trained_on, facts=facts)
    total = len(suite.prompts) * len(made.seeds)
    with Progress(f"eval {made.name}", total) as progress:
        summary = measure(
            request,
            pool=pool,
            peers=peers,
            on_progress=lambda done, _: progress.update(done),
            on_note=progress.say,
        )
    assert summary is not None, "the main process gets the summary"
    return summary


def _request(suite: Suite, made: _Source, folder: Path, pool: ScoringPool, draw: Draw | None) -> Request:
    from benchmarks.harness.request import Request

    return Request(suite, pool.specs, folder, made.name, seeds=made.seeds, draw=draw, images=made.images)


def show_summary(summary: Summary, suite: Suite, *, as_json: bool) -> None:
    """The answer on stdout: a table with the folder under it, or one JSON document."""
    from benchmarks.reading.stats import FEW_SENTENCE, caveat

    if as_json:
        print_json(
            {
                "folder": str(summary.folder),
                "suite": suite.name,
                "suite_sha": suite.sha256,
                "images": summary.images,
                "failed": summary.failed,
                "reasons": summary.reasons,
                "notes": summary.notes,
                "rewards": [asdict(row) for row in summary.rows],
                **({"geneval": describe_geneval(summary.geneval)} if summary.geneval else {}),
            }
        )
        return
    rows = [
        (
            row.reward,
            row.unit,
            tell_mean(asdict(row)),
            row.prompts,
            row.seeds,
            row.failed,
            row.domain,
        )
        for row in summary.rows
    ]
    head = ("reward", "unit", "mean [95 %]", "prompts", "seeds", "failed", "domain")
    print_table(head, rows, expendable=("unit", "domain", "seeds"))
    if any(caveat(row.interval, row.prompts) for row in summary.rows):
        print(FEW_SENTENCE)
    for line in summary.failures:
        print(shown(line))
    show_geneval(summary.geneval, summary.rows[0].run if summary.rows else "")
    print(f"results: {summary.folder}")


def tell_mean(measured: Mapping[str, Any]) -> str:
    """The mean with its interval, and with what has to stand beside that; by the names of a row of the summary."""
    from benchmarks.reading.stats import caveat

    words = format_number(measured["mean"])
    if measured["ci_low"] is not None:
        words += f" [{format_number(measured['ci_low'])}, {format_number(measured['ci_high'])}]"
    beside = caveat(measured["interval"], measured["prompts"])
    return f"{words} ({beside})" if beside else words
