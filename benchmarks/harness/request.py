"""An evaluation as one value and one call: `benchmarks.evaluate(Request(...))`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import evaluate as harness
from benchmarks.harness.evaluate import BLOCK
from benchmarks.harness.images import Draw
from benchmarks.harness.shares import Peers
from benchmarks.harness.summary import Summary
from benchmarks.suite import Suite
from rewards.pool import ScoringPool
from rewards.spec import RewardSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is to be measured, by what, and where the results go; the same request again makes only what is missing.

    Exactly one of `draw` and `images` is given.
    """

    suite: Suite
    specs: Sequence[RewardSpec]
    """By what is measured."""
    folder: Path
    """The results folder."""
    run_name: str
    """How tables call what is measured."""
    seeds: Sequence[int] = (0,)
    """Images per prompt."""
    draw: Draw | None = None
    """Makes the images of some cells (prompt and seed); it is asked for blocks that are the same in every process."""
    images: Path | None = None
    """A folder of images made elsewhere."""
    trained_on: Collection[str] | None = None
    """The keys of the rewards that the model was trained with; None for one that no reward trained."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Recorded in run.json; its `model` and `sampler` tell whether a folder's results belong to this request."""
    block: int = BLOCK
    """Images drawn at once, by one process, and judged at once, by one worker."""


def evaluate(
    request: Request,
    *,
    pool: ScoringPool | None = None,
    peers: Peers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = log.warning,
) -> Summary | None:
    """Measure, and write the results folder.

    Args:
        pool: an open pool made with the request's specs; without one, one with a worker is opened.
        peers: the processes that do this together; each makes this call with the same request.
        on_progress: gets (done, total) in images.
        on_note: gets a sentence whenever something was mended; the summary repeats them all.

    Returns:
        The summary on the main process, None on its peers.

    Raises:
        UsageError: before anything is drawn, where the request is impossible or the folder is another run's.
    """
    if pool is None:
        with ScoringPool(request.specs, workers=1) as own:
            return evaluate(request, pool=own, peers=peers, on_progress=on_progress, on_note=on_note)
    work = {
        "seeds": request.seeds,
        "specs": request.specs,
        "folder": request.folder,
        "draw": request.draw,
        "images": request.images,
        "pool": pool,
        "block": request.block,
    }
    if peers is not None and peers.rank > 0:
        harness.assist(request.suite, **work, peers=peers)
        return None
    return harness.evaluate(
        request.suite,
        **work,
        run_name=request.run_name,
        trained_on=request.trained_on,
        provenance=request.facts,
        peers=peers,
        on_progress=on_progress,
        on_note=on_note,
    )
