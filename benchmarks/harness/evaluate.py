"""One evaluation: every prompt of a suite with every seed, drawn or found, scored by every reward, written down.

The results folder is the state. Running the same command again makes only what is missing: after a kill it goes on,
with more prompts, seeds or rewards it amends, and scores that failed are tried again. Blocks of cells are fixed by
suite and seed, and a block is drawn at once by one process; so neither kills nor the number of processes or of scoring
workers change an image. While the images of one block are scored by the pool, those of the next are drawn.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.drawing import with_drawn_size
from benchmarks.harness.images import Cell, CellKey, Draw, DrawnImages, FoundImages, ImageSource, Picture, cells_of
from benchmarks.harness.record import (
    RECORD_FILE,
    Record,
    amend_record,
    describe_run,
    read_record,
    refuse_other_run,
    rescored_rewards,
    unrecorded_contents,
    write_record,
)
from benchmarks.harness.rows import RowMaker
from benchmarks.harness.shares import Alone, Peers, deal, hear_reports, hold, hold_together, others, report
from benchmarks.harness.store import SCORES_FILE, Row, ScoreStore, holds_scores, read_all_rows
from benchmarks.harness.summary import Summary, count_failures, summarise, tell_failures, write_summary
from benchmarks.reading.geneval_results import OFFICIAL, write_geneval
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.files import check_shared, sha256
from rewards.kept_prompts import keep_prompts
from rewards.pool import Scored, ScoringPool
from rewards.spec import RewardSpec

log = logging.getLogger(__name__)

# Images that are drawn at once, by one process, and judged at once, by one worker.
BLOCK = 16
SHOWN_PROBLEMS = 10
OPENED = "opened"


def evaluate(
    suite: Suite,
    *,
    seeds: Sequence[int],
    specs: Sequence[RewardSpec],
    folder: Path,
    draw: Draw | None = None,
    images: Path | None = None,
    run_name: str,
    trained_on: Collection[str] | None,
    pool: ScoringPool,
    provenance: Mapping[str, Any],
    block: int = BLOCK,
    peers: Peers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = log.warning,
) -> Summary:
    """Score a suite into `folder` (images/, scores.csv, summary.csv, prompts.jsonl, run.json) and return the summary.

    By GenEval's official verdict, its table is written too (geneval.csv, geneval.md).

    Exactly one of `draw` (a function that makes images) and `images` (a folder of images made elsewhere) is given.
    `pool` was built with `specs`. `trained_on` holds the reward keys the model was trained with, None for a model that
    no reward trained. `provenance` goes into run.json; its `model` and `sampler` decide whether a folder that already
    holds results belongs to this run. `on_progress(done, total)` counts images; `on_note` gets a sentence whenever
    something was mended, and the summary repeats them all. With `peers` this is the main one of several processes; the
    others call `assist` with the same suite, seeds, specs, source of images and block.

    Raises UsageError before anything is drawn: no rewards or seeds, prompts that a reward cannot judge (all of them at
    once), a folder with another run's results, or one where another command is at work.
    """
    _check_request(seeds, specs)
    peers = peers or Alone()
    notes = _Notes(on_note)
    source = _choose_source(suite, folder, draw, images, notes)
    check_prompts(suite, pool)
    record = describe_run(
        suite,
        run_name=run_name,
        seeds=seeds,
        images=images,
        trained_on=trained_on,
        rewards=pool.facts(),
        provenance=provenance,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder) as let_others_in:
        store, record = _open_folder(folder, record, suite, notes)
        if others(peers):
            store = ScoreStore(folder, rank=peers.rank)
            let_others_in()
            peers.tell(OPENED, sha256(folder / RECORD_FILE))
        run = _Evaluation(suite, record, store, specs, source, pool, notes)
        total = len(suite.prompts) * len(seeds)
        for finished in run.work_through(deal(blocks_of(suite, seeds, block), peers)):
            on_progress(peers.count(finished), total)
        if others(peers):
            run.take_reports(hear_reports(peers, lambda: on_progress(peers.count(0), total)))
            on_progress(total, total)
        return run.close(folder, seeds)


def assist(
    suite: Suite,
    *,
    seeds: Sequence[int],
    specs: Sequence[RewardSpec],
    folder: Path,
    draw: Draw | None = None,
    images: Path | None = None,
    pool: ScoringPool,
    block: int = BLOCK,
    peers: Peers,
) -> None:
    """Do blocks of an evaluation whose main process, with the same arguments, is in `evaluate`."""
    notes = _Notes(lambda _: None)
    source = _choose_source(suite, folder, draw, images, notes)
    check_shared(folder / RECORD_FILE, peers.hear(OPENED, lambda: None))
    with hold_together(folder):
        run = _Evaluation(suite, read_record(folder), ScoreStore(folder, rank=peers.rank), specs, source, pool, notes)
        for finished in run.work_through(deal(blocks_of(suite, seeds, block), peers)):
            peers.count(finished)
        report(peers, run.report())


def check_prompts(suite: Suite, pool: ScoringPool, keys: Collection[str] | None = None) -> None:
    """All rewards of an open pool, or those of these keys, can be built and can judge every prompt.

    Raises:
        SetupError: a line for each reward that cannot be built here.
        UsageError: it names every reward and prompt that do not go together, before hours are spent on the others.
    """
    problems = []
    for key, answers in pool.find_problems(suite.prompts, keys).items():
        found = [answer for answer in answers if answer is not None]
        if found:
            problems.append(f"{key} cannot judge {len(found)} of {len(suite.prompts)} prompts:")
            problems += [f"  {sentence}" for sentence in found[:SHOWN_PROBLEMS]]
            if len(found) > SHOWN_PROBLEMS:
                problems.append(f"  and {len(found) - SHOWN_PROBLEMS} more.")
    if problems:
        raise UsageError(
            f"The prompts of {suite.name} do not go with these rewards; name other rewards with --reward, or other"
            " prompts.\n" + "\n".join(problems)
        )


class _Notes:
    """Sentences for a person: passed on as they come, and kept for the summary."""

    def __init__(self, pass_on: Callable[[str], None]) -> None:
        self.sentences: list[str] = []
        self.pass_on = pass_on

    def add(self, sentence: str) -> None:
        self.sentences.append(sentence)
        self.pass_on(sentence)


class _Block:
    """The pictures of one block on their way through the pool; `wanted` are the reward keys each still lacks."""

    def __init__(self, pictures: Sequence[Picture], wanted: Mapping[Cell, Sequence[str]], pool: ScoringPool) -> None:
        self.pictures = pictures
        self.wanted = wanted
        alike: dict[tuple[str, ...], list[Picture]] = {}
        for picture in pictures:
            if picture.image is not None and wanted[picture.cell]:
                alike.setdefault(tuple(wanted[picture.cell]), []).append(picture)
        self.batches: list[tuple[list[Picture], Future[Scored]]] = []
        for keys, batch in alike.items():
            images = [picture.image for picture in batch if picture.image is not None]
            self.batches.append((batch, pool.submit(images, [picture.cell.prompt for picture in batch], keys)))


class _Evaluation:
    """One evaluation under way: its folder's scores, where images come from, and who scores them."""

    def __init__(
        self,
        suite: Suite,
        record: Record,
        store: ScoreStore,
        specs: Sequence[RewardSpec],
        source: ImageSource,
        pool: ScoringPool,
        notes: _Notes,
    ) -> None:
        self.suite, self.record, self.store = suite, record, store
        self.keys = [spec.key for spec in specs]
        self.source, self.pool, self.notes = source, pool, notes
        self.rows_of = RowMaker(suite, record["run"])
        self.replaced: dict[CellKey, str] = {}

    def work_through(self, blocks: Iterable[Sequence[Cell]]) -> Iterator[int]:
        """Do block after block, drawing while as many as there are workers are scored; yields the cells done."""
        begun: deque[_Block] = deque()
        for cells in blocks:
            begun.append(self._start(cells))
            if len(begun) > max(self.pool.workers, 1):
                yield self._finish(begun.popleft())
        while begun:
            yield self._finish(begun.popleft())

    def report(self) -> list[Any]:
        """What another process tells the main one at the end, beside the rows it has written."""
        return [self.notes.sentences, [[*cell, sha] for cell, sha in self.replaced.items()]]

    def take_reports(self, reports: Iterable[Any]) -> None:
        """Know what the other processes have done; each of their sentences is passed on once."""
        for sentences, replaced in reports:
            for sentence in sentences:
                if sentence not in self.notes.sentences:
                    self.notes.add(sentence)
            self.replaced.update(((prompt_id, seed), sha) for prompt_id, seed, sha in replaced)

    def close(self, folder: Path, seeds: Collection[int]) -> Summary:
        """Put the scores in one order, write the summary, and mark the record as finished."""
        self.store.merge()
        rows = self._in_order(self._current(self.store.rows.values()))
        self.store.rewrite(rows)
        if deadly := [row for row in rows if row.deadly]:
            self.notes.add(
                f"{len(deadly)} scores are missing because scoring the image killed the process; they are not tried "
                f"again unless their rows are deleted from {self.store.path}."
            )
        table, without_scores = summarise(rows, self.record["rewards"], self.record["trained_on"])
        for sentence in without_scores:
            self.notes.add(sentence)
        write_summary(folder, table)
        verdicts = [row.reward for row in table if self.record["rewards"][row.reward]["name"] == OFFICIAL]
        geneval = write_geneval(folder, rows, self.suite.prompts, self.record["run"], verdicts)
        write_record(folder, {**self.record, "finished": True})
        asked = [row for row in rows if row.reward in self.keys and row.seed in seeds]
        failed, reasons = count_failures(asked)
        images, notes = len(self.suite.prompts) * len(seeds), tuple(self.notes.sentences)
        return Summary(folder, tuple(table), images, failed, reasons, tell_failures(asked), notes, geneval)

    def _start(self, cells: Sequence[Cell]) -> _Block:
        """Fetch a block's images and hand those that lack a score to the pool; returns while they are being scored."""
        scored_sha = {cell.key: self._scored_sha(cell) for cell in cells}
        pictures = self.source.fetch(cells, scored_sha)
        for picture in pictures:
            if scored_sha[picture.cell.key] - {picture.sha256}:
                self.replaced[picture.cell.key] = picture.sha256
        wanted = {picture.cell: [key for key in self.keys if not self._is_done(picture, key)] for picture in pictures}
        return _Block(pictures, wanted, self.pool)

    def _finish(self, block: _Block) -> int:
        """Wait for a block's scores and put them on disk; returns how many cells are done with it."""
        rows = [
            self.rows_of.without_image(picture, key)
            for picture in block.pictures
            if picture.image is None
            for key in block.wanted[picture.cell]
        ]
        for batch, future in block.batches:
            scored = future.result()
            for index, picture in enumerate(batch):
                for key in block.wanted[picture.cell]:
                    rows.append(self.rows_of.scored(picture, key, scored.scores[key][index], scored.seconds[key]))
        self.store.append(rows)
        return len(block.pictures)

    def _scored_sha(self, cell: Cell) -> set[str]:
        """The images that were there when this cell was scored, or could not be."""
        rows = (self.store.rows.get((*cell.key, key)) for key in self.record["rewards"])
        return {row.image_sha for row in rows if row is not None and row.image_sha}

    def _is_done(self, picture: Picture, key: str) -> bool:
        row = self.store.rows.get((*picture.cell.key, key))
        return row is not None and row.settled and row.image_sha == picture.sha256

    def _current(self, rows: Iterable[Row]) -> list[Row]:
        """Without the scores, of rewards not asked for now, whose image has been replaced since."""
        rows = list(rows)
        kept = [row for row in rows if row.image_sha == self.replaced.get((row.prompt_id, row.seed), row.image_sha)]
        if len(kept) < len(rows):
            rewards = ", ".join(sorted({row.reward for row in rows} - set(self.keys)))
            self.notes.add(
                f"{len(rows) - len(kept)} scores of {rewards} belonged to images that have changed since and were"
                " dropped; name these rewards again to make them."
            )
        return kept

    def _in_order(self, rows: Iterable[Row]) -> list[Row]:
        prompts = {prompt.id: number for number, prompt in enumerate(self.suite.prompts)}
        rewards = {key: number for number, key in enumerate(self.record["rewards"])}
        return sorted(rows, key=lambda row: (prompts[row.prompt_id], row.seed, rewards[row.reward]))


def _check_request(seeds: Sequence[int], specs: Sequence[RewardSpec]) -> None:
    if not specs:
        raise UsageError("No reward was named, and the suite has no default one; name one with --reward.")
    if not seeds:
        raise UsageError("No seed was asked for; --seeds has to be at least 1.")
    if len(set(seeds)) != len(seeds):
        raise UsageError("A seed was given twice; every seed is one image per prompt.")


def _choose_source(suite: Suite, folder: Path, draw: Draw | None, images: Path | None, notes: _Notes) -> ImageSource:
    if draw is not None and images is None:
        return DrawnImages(folder, draw, notes.add)
    if images is not None and draw is None:
        return FoundImages(images, suite, notes.add)
    raise UsageError("An evaluation needs either a model that draws or a folder of images, and not both.")


def blocks_of(suite: Suite, seeds: Iterable[int], size: int) -> list[list[Cell]]:
    return [cells[start : start + size] for cells in cells_of(suite, seeds) for start in range(0, len(cells), size)]


def _open_folder(folder: Path, record: Record, suite: Suite, notes: _Notes) -> tuple[ScoreStore, Record]:
    """The scores a folder already holds, if they are this run's, and the record to which this evaluation amounts."""
    if not (folder / RECORD_FILE).exists():
        if holds_scores(folder):
            raise UsageError(
                f"{folder} holds {SCORES_FILE} but no {RECORD_FILE}, so nobody can tell whose scores these are."
                " Choose another --output."
            )
        keep_prompts(folder, suite.prompts)
        write_record(folder, record)
        return ScoreStore(folder), record
    old = with_drawn_size(folder, read_record(folder), record)
    refuse_other_run(folder, _with_new_prompts(folder, old, record, suite), record)
    absent = unrecorded_contents(old, record)
    if absent:
        notes.add(
            f"{folder} does not record the contents of its {' and '.join(absent)}; they are taken to be those of now,"
            " and recorded."
        )
    store = ScoreStore(folder)
    _admit_new_prompts(store, old, record, notes)
    if store.torn:
        notes.add(f"{store.path} ended in a half-written row, left by a kill; it was dropped and is made again.")
    changed = rescored_rewards(old, record)
    if changed:
        # The old scores go before the record changes: a kill in between leaves fewer scores, never mixed ones.
        store.rewrite([row for row in store.rows.values() if row.reward not in changed])
        for sentence in changed.values():
            notes.add(sentence)
    amended = amend_record(old, record)
    _refuse_foreign_rows(store, amended, suite)
    keep_prompts(folder, suite.prompts)
    write_record(folder, amended)
    return store, amended


def _refuse_foreign_rows(store: ScoreStore, record: Record, suite: Suite) -> None:
    """UsageError for scores that no run of this record can have made: they could stand in no table at the end."""
    prompts = {prompt.id for prompt in suite.prompts}
    for row in store.rows.values():
        what = "prompt" if row.prompt_id not in prompts else "reward" if row.reward not in record["rewards"] else ""
        if what:
            raise UsageError(
                f"{store.path} holds a row of a {what} that this run does not have ({row.prompt_id or 'no id'}, "
                f"{row.reward or 'no reward'}). Delete such rows, or choose another --output."
            )


def _with_new_prompts(folder: Path, old: Record, new: Record, suite: Suite) -> Record:
    """The old record as one of the new suite, if that is the old one with more prompts.

    That is seen by the scores: none belongs to a prompt that is no longer there. A prompt's id is a hash of all of it.
    """
    known = {prompt.id for prompt in suite.prompts}
    same_name = old["suite"]["name"] == new["suite"]["name"]
    if same_name and all(row.prompt_id in known for row in read_all_rows(folder)):
        return {**old, "suite": new["suite"]}
    return old


def _admit_new_prompts(store: ScoreStore, old: Record, new: Record, notes: _Notes) -> None:
    there, here = old["suite"], new["suite"]
    if there["sha256"] == here["sha256"]:
        return
    store.rewrite([replace(row, suite_sha=here["sha256"]) for row in store.rows.values()])
    notes.add(
        f"The suite {here['name']} has other prompts than before ({there['prompts']} then, {here['prompts']} now); the"
        " scores of those that it still has are kept."
    )
