"""What `dgpo eval` measures, a model that draws or a folder of images; and the measuring, alone or with others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.model import Choice, load_choice
from cli.peers import Peers
from cli.progress import Progress
from cli.provenance import provenance
from cli.screen import say
from cli.threads import share_cores
from rewards.exits import INTERRUPTED

if TYPE_CHECKING:
    from benchmarks.harness.images import Draw
    from benchmarks.harness.request import Request
    from benchmarks.harness.summary import Summary
    from benchmarks.suite import Suite
    from dgpo.precision import Wanted
    from rewards.pool import ScoringPool


@dataclass(frozen=True)
class EvaluationSource:
    """Where the images of one evaluation come from; `load` gives the drawing function with the record's facts."""

    name: str
    seeds: Sequence[int]
    images: Path | None = None
    choice: Choice | None = None
    sampling: Mapping[str, Any] | None = None
    dtype: Wanted = "auto"

    @classmethod
    def of_model(cls, choice: Choice, sampling: Mapping[str, Any], dtype: Wanted, seeds: int) -> EvaluationSource:
        return cls(choice.name, range(seeds), choice=choice, sampling=sampling, dtype=dtype)

    @classmethod
    def of_folder(cls, images: Path, suite: Suite, seeds: int | None) -> EvaluationSource:
        from benchmarks.harness.images import FoundImages

        found = FoundImages(images, suite).seeds
        return cls(images.resolve().name, found if seeds is None else range(seeds), images=images)

    def useful_processes(self, processes: int, suite: Suite) -> int:
        """Not more processes than there are blocks to draw."""
        from benchmarks.harness.request import BLOCK, blocks_of

        blocks = len(blocks_of(suite, self.seeds))
        if processes <= blocks:
            return processes
        gives = f"which gives work to {blocks} of {processes} processes"
        say(f"images are made {BLOCK} at a time, {gives}; starting {blocks}")
        return blocks

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


def leads(peers: Peers | None) -> bool:
    """Whether this process opens the folder, speaks, and gives the answer."""
    return peers is None or peers.rank == 0


def assist(suite: Suite, made: EvaluationSource, folder: Path, pool: ScoringPool, peers: Peers) -> None:
    """Do a share of the work and be silent: the main process tells what there is to tell."""
    from benchmarks.harness.evaluate import evaluate as measure

    try:
        draw, _, _ = made.load()
        share_cores(pool.workers)
        measure(_request(suite, made, folder, pool, draw), pool=pool, peers=peers)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def run(suite: Suite, made: EvaluationSource, folder: Path, pool: ScoringPool, peers: Peers | None) -> Summary:
    """Measure, with a line of progress; with peers this is the main one of them."""
    from benchmarks.harness.evaluate import evaluate as measure

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


def _request(suite: Suite, made: EvaluationSource, folder: Path, pool: ScoringPool, draw: Draw | None) -> Request:
    from benchmarks.harness.request import Request

    return Request(suite, pool.specs, folder, made.name, seeds=made.seeds, draw=draw, images=made.images)
