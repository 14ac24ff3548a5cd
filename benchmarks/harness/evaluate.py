"""One evaluation: every prompt of a suite with every seed, drawn or found, scored by every reward, written down.

The results folder is the state. Running the same command again makes only what is missing: after a kill it goes on,
with more prompts, seeds or rewards it amends, and scores that failed are tried again. Blocks of cells are fixed by
suite and seed, and a block is drawn at once by one process; so neither kills nor the number of processes or of scoring
workers change an image. While the images of one block are scored by the pool, those of the next are drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from benchmarks.harness.evaluation import Evaluation
from benchmarks.harness.images import DrawnImages, FoundImages, ImageSource
from benchmarks.harness.notes import Notes
from benchmarks.harness.opening import open_results
from benchmarks.harness.record import RECORD_FILE, describe_run, read_record
from benchmarks.harness.request import Request, blocks_of
from benchmarks.harness.requirements import check_prompts, check_request
from benchmarks.harness.shares import Alone, Peers, deal, hear_reports, hold, hold_together, others, report
from benchmarks.harness.store import ScoreStore
from benchmarks.harness.summary import Summary
from rewards.errors import UsageError
from rewards.files import check_shared, sha256
from rewards.pool import ScoringPool

log = logging.getLogger(__name__)
OPENED = "opened"


def evaluate(
    request: Request,
    *,
    pool: ScoringPool | None = None,
    peers: Peers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = log.warning,
) -> Summary | None:
    """Measure, and write the results folder: images/, scores.csv, summary.csv, prompts.jsonl, run.json, and the files
    of the suite's own table.

    Args:
        pool: an open pool made with the request's specs; without one, one with a worker is opened.
        peers: the processes that do this together; each makes this call with the same request.
        on_progress: gets (done, total) in images.
        on_note: gets a sentence whenever something was mended; the summary repeats them all.

    Returns:
        The summary on the main process, None on its peers.

    Raises:
        UsageError: before anything is drawn: no rewards or seeds, prompts that a reward cannot judge (all of them at
            once), a folder with another run's results, or one where another command is at work.
    """
    if pool is None:
        with ScoringPool(request.specs, workers=1) as own:
            return evaluate(request, pool=own, peers=peers, on_progress=on_progress, on_note=on_note)
    peers = peers or Alone()
    if peers.rank > 0:
        return _assist(request, pool, peers)
    return _lead(request, pool, peers, on_progress, Notes(on_note))


def _lead(
    request: Request, pool: ScoringPool, peers: Peers, on_progress: Callable[[int, int], None], notes: Notes
) -> Summary:
    suite, folder, total = request.suite, request.folder, request.total
    check_request(request.seeds, request.specs)
    source = _choose_source(request, notes)
    check_prompts(suite, pool)
    record = describe_run(request, pool.facts())
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder) as let_others_in:
        store, record = open_results(folder, record, suite, notes)
        if others(peers):
            store = ScoreStore(folder, rank=peers.rank)
            let_others_in()
            peers.tell(OPENED, sha256(folder / RECORD_FILE))
        run = Evaluation(request, record, store, source, pool, notes)
        for finished in run.work_through(deal(blocks_of(suite, request.seeds, request.block), peers)):
            on_progress(peers.count(finished), total)
        if others(peers):
            run.take_reports(hear_reports(peers, lambda: on_progress(peers.count(0), total)))
            on_progress(total, total)
        return run.close()


def _assist(request: Request, pool: ScoringPool, peers: Peers) -> None:
    """Do blocks of an evaluation whose main process, with the same request, is in `_lead`."""
    folder, notes = request.folder, Notes(lambda _: None)
    source = _choose_source(request, notes)
    check_shared(folder / RECORD_FILE, peers.hear(OPENED, lambda: None))
    with hold_together(folder):
        run = Evaluation(request, read_record(folder), ScoreStore(folder, rank=peers.rank), source, pool, notes)
        for finished in run.work_through(deal(blocks_of(request.suite, request.seeds, request.block), peers)):
            peers.count(finished)
        report(peers, run.report())


def _choose_source(request: Request, notes: Notes) -> ImageSource:
    if request.draw is not None and request.images is None:
        return DrawnImages(request.folder, request.draw, notes.add)
    if request.images is not None and request.draw is None:
        return FoundImages(request.images, request.suite, notes.add)
    raise UsageError("An evaluation needs either a model that draws or a folder of images, and not both.")
