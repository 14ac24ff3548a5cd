"""One evaluation: every prompt of a suite with every seed, drawn or found, scored by every reward, written down.

The results folder is the state. Running the same command again makes only what is missing: after a kill it goes on,
with more seeds or rewards it amends, and scores that failed are tried again. Blocks of cells are fixed by suite and
seed; while the images of one block are scored by the pool, those of the next are drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from benchmarks.generate import Cell, CellKey, Draw, DrawnImages, FoundImages, ImageSource, Picture, cells_of
from benchmarks.geneval_results import OFFICIAL, write_geneval
from benchmarks.record import (
    RECORD_FILE,
    Record,
    amend_record,
    describe_run,
    read_record,
    refuse_other_run,
    rescored_rewards,
    write_record,
)
from benchmarks.rows import RowMaker
from benchmarks.store import OK, SCORES_FILE, Row, ScoreStore
from benchmarks.suite import Suite
from benchmarks.summary import Summary, count_failures, summarise, write_summary
from rewards.errors import UsageError
from rewards.pool import Scored, ScoringPool
from rewards.registry import load
from rewards.reward import Reward
from rewards.spec import RewardSpec

log = logging.getLogger(__name__)

# Images handed to one worker at a time; smaller than a block, so that every worker has something to do.
BATCH = 16
SHOWN_PROBLEMS = 10


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
    block: int = 64,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = log.warning,
) -> Summary:
    """Score a suite into `folder` (images/, scores.csv, summary.csv, run.json) and return the summary.

    By GenEval's official verdict, its table is written too (geneval.csv, geneval.md).

    Exactly one of `draw` (a function that makes images) and `images` (a folder of images made elsewhere) is given.
    `pool` was built with `specs`. `trained_on` holds the reward keys the model was trained with, None for a model that
    no reward trained. `provenance` goes into run.json; its `model` and `sampler` decide whether a folder that already
    holds results belongs to this run. `on_progress(done, total)` counts images; `on_note` gets a sentence whenever
    something was mended, and the summary repeats them all.

    Raises UsageError before anything is drawn: no rewards or seeds, prompts that a reward cannot judge (all of them at
    once), a folder with another run's results.
    """
    _check_request(seeds, specs)
    notes = _Notes(on_note)
    source = _choose_source(suite, folder, draw, images, notes)
    rewards = [load(spec) for spec in specs]
    check_prompts(suite, rewards)
    record = describe_run(
        suite,
        run_name=run_name,
        seeds=seeds,
        images=images,
        trained_on=trained_on,
        rewards=rewards,
        provenance=provenance,
    )
    store, record = _open_folder(folder, record, notes)
    run = _Evaluation(suite, folder, record, store, specs, source, pool, notes)
    total, done = len(suite.prompts) * len(seeds), 0
    for finished in run.work_through(_blocks(suite, seeds, block)):
        done += finished
        on_progress(done, total)
    return run.close(seeds)


def check_prompts(suite: Suite, rewards: Iterable[Reward]) -> None:
    """UsageError that names every reward and prompt that do not go together, before hours are spent on the others."""
    problems = []
    for reward in rewards:
        found = []
        prepare = getattr(reward, "prepare_checks", None)  # a served reward asks its server in few requests
        if prepare is not None:
            prepare(suite.prompts)
        for prompt in suite.prompts:
            try:
                reward.check(prompt)
            except UsageError as error:
                found.append(str(error))
        if found:
            problems.append(f"{reward.spec.key} cannot judge {len(found)} of {len(suite.prompts)} prompts:")
            problems += [f"  {sentence}" for sentence in found[:SHOWN_PROBLEMS]]
            if len(found) > SHOWN_PROBLEMS:
                problems.append(f"  and {len(found) - SHOWN_PROBLEMS} more.")
    if problems:
        raise UsageError(
            f"The suite {suite.name} does not go with these rewards; name other rewards with --reward, or another"
            " suite.\n" + "\n".join(problems)
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

    def __init__(self, pictures: Sequence[Picture], wanted: Mapping[Cell, list[str]], pool: ScoringPool) -> None:
        self.pictures = pictures
        self.wanted = wanted
        readable = [picture for picture in pictures if picture.image is not None and wanted[picture.cell]]
        self.batches: list[tuple[list[Picture], Future[Scored]]] = []
        for start in range(0, len(readable), BATCH):
            batch = readable[start : start + BATCH]
            images = [picture.image for picture in batch if picture.image is not None]
            self.batches.append((batch, pool.submit(images, [picture.cell.prompt for picture in batch])))


class _Evaluation:
    """One evaluation under way: its folder's scores, where images come from, and who scores them."""

    def __init__(
        self,
        suite: Suite,
        folder: Path,
        record: Record,
        store: ScoreStore,
        specs: Sequence[RewardSpec],
        source: ImageSource,
        pool: ScoringPool,
        notes: _Notes,
    ) -> None:
        self.suite, self.folder, self.record, self.store = suite, folder, record, store
        self.keys = [spec.key for spec in specs]
        self.source, self.pool, self.notes = source, pool, notes
        self.rows_of = RowMaker(suite, record["run"])
        self.current_sha: dict[CellKey, str] = {}

    def work_through(self, blocks: Iterable[Sequence[Cell]]) -> Iterator[int]:
        """Do block after block, drawing one while the one before is scored; yields the cells done with each."""
        before: _Block | None = None
        for cells in blocks:
            block = self._start(cells)
            if before is not None:
                yield self._finish(before)
            before = block
        if before is not None:
            yield self._finish(before)

    def close(self, seeds: Collection[int]) -> Summary:
        """Put the scores in one order, write the summary, and mark the record as finished."""
        rows = self._in_order(self._current(self.store.rows.values()))
        self.store.rewrite(rows)
        units = {key: reward["unit"] for key, reward in self.record["rewards"].items()}
        table, without_scores = summarise(rows, units, self.record["trained_on"])
        for sentence in without_scores:
            self.notes.add(sentence)
        write_summary(self.folder, table)
        verdicts = [row.reward for row in table if self.record["rewards"][row.reward]["name"] == OFFICIAL]
        geneval = write_geneval(self.folder, rows, self.suite, self.record["run"], verdicts)
        write_record(self.folder, {**self.record, "finished": True})
        failed, reasons = count_failures(row for row in rows if row.reward in self.keys and row.seed in seeds)
        images = len(self.suite.prompts) * len(seeds)
        return Summary(self.folder, tuple(table), images, failed, reasons, tuple(self.notes.sentences), geneval)

    def _start(self, cells: Sequence[Cell]) -> _Block:
        """Fetch a block's images and hand those that lack a score to the pool; returns while they are being scored."""
        scored_sha = {cell.key: self._scored_sha(cell) for cell in cells}
        pictures = self.source.fetch(cells, scored_sha)
        self.current_sha.update((picture.cell.key, picture.sha256) for picture in pictures)
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
        rows = (self.store.rows.get((*cell.key, key)) for key in self.record["rewards"])
        return {row.image_sha for row in rows if row is not None and row.status == OK}

    def _is_done(self, picture: Picture, key: str) -> bool:
        row = self.store.rows.get((*picture.cell.key, key))
        return row is not None and row.status == OK and row.image_sha == picture.sha256

    def _current(self, rows: Iterable[Row]) -> list[Row]:
        """Without the scores, of rewards not asked for now, whose image has been replaced since."""
        rows = list(rows)
        kept = [row for row in rows if row.image_sha == self.current_sha.get((row.prompt_id, row.seed), row.image_sha)]
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
        raise UsageError("A seed was given twice; every seed is one image a prompt.")


def _choose_source(suite: Suite, folder: Path, draw: Draw | None, images: Path | None, notes: _Notes) -> ImageSource:
    if draw is not None and images is None:
        return DrawnImages(folder, draw, notes.add)
    if images is not None and draw is None:
        return FoundImages(images, suite, notes.add)
    raise UsageError("An evaluation needs either a model that draws or a folder of images, and not both.")


def _blocks(suite: Suite, seeds: Iterable[int], size: int) -> Iterable[list[Cell]]:
    for cells in cells_of(suite, seeds):
        for start in range(0, len(cells), size):
            yield cells[start : start + size]


def _open_folder(folder: Path, record: Record, notes: _Notes) -> tuple[ScoreStore, Record]:
    """The scores a folder already holds, if they are this run's, and the record to which this evaluation amounts."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RECORD_FILE).exists():
        if (folder / SCORES_FILE).exists():
            raise UsageError(
                f"{folder} holds {SCORES_FILE} but no {RECORD_FILE}, so nobody can tell whose scores these are."
                " Choose another --output."
            )
        write_record(folder, record)
        return ScoreStore(folder), record
    old = read_record(folder)
    refuse_other_run(folder, old, record)
    store = ScoreStore(folder)
    if store.torn:
        notes.add(f"{store.path} ended in a half-written row, left by a kill; it was dropped and is made again.")
    changed = rescored_rewards(old, record)
    if changed:
        # The old scores go before the record changes: a kill in between leaves fewer scores, never mixed ones.
        store.rewrite([row for row in store.rows.values() if row.reward not in changed])
        for sentence in changed.values():
            notes.add(sentence)
    amended = amend_record(old, record)
    write_record(folder, amended)
    return store, amended
