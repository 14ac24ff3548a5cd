"""An evaluation under way: which scores are there, which are wanted, and what they amount to at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.harness.images import Cell, CellKey, ImageSource, Picture
from benchmarks.harness.notes import Notes
from benchmarks.harness.pipeline import score_ahead
from benchmarks.harness.record import Record, write_record
from benchmarks.harness.request import Request
from benchmarks.harness.rows import Subject
from benchmarks.harness.store import Row, ScoreStore
from benchmarks.harness.summary import Summary, count_failures, summarise, tell_failures, write_summary
from rewards.pool import ScoringPool


class Evaluation:
    """What one process knows of it: the folder's scores, where images come from, and who scores them."""

    def __init__(
        self,
        request: Request,
        record: Record,
        store: ScoreStore,
        source: ImageSource,
        pool: ScoringPool,
        notes: Notes,
    ) -> None:
        self.request, self.suite, self.suite_sha = request, request.suite, request.suite.sha256
        self.record, self.store, self.source, self.pool, self.notes = record, store, source, pool, notes
        self.keys = [spec.key for spec in request.specs]
        self.replaced: dict[CellKey, str] = {}

    def work_through(self, blocks: Iterable[Sequence[Cell]]) -> Iterator[int]:
        """Do block after block and put the scores on disk; yields the cells done."""
        for rows in score_ahead(map(self._fetch, blocks), self.pool):
            self.store.append(row for of_cell in rows for row in of_cell)
            yield len(rows)

    def report(self) -> list[Any]:
        """What another process tells the main one at the end, beside the rows it has written."""
        return [self.notes.sentences, [[*cell, sha] for cell, sha in self.replaced.items()]]

    def take_reports(self, reports: Iterable[Any]) -> None:
        """Know what the other processes have done; each of their sentences is passed on once."""
        for sentences, replaced in reports:
            for sentence in sentences:
                self.notes.add_once(sentence)
            self.replaced.update(((prompt_id, seed), sha) for prompt_id, seed, sha in replaced)

    def close(self) -> Summary:
        """Put the scores in one order, write the summary and the suite's table, and mark the record as finished."""
        self.store.merge()
        rows = self._in_order(self._current(self.store.rows.values()))
        self.store.rewrite(rows)
        if deadly := [row for row in rows if row.deadly]:
            self.notes.add(
                f"{len(deadly)} scores are missing because scoring the image killed the process; they are not tried "
                f"again unless their rows are deleted from {self.store.path}."
            )
        means, without_scores = summarise(rows, self.record["rewards"], self.record["trained_on"])
        for sentence in without_scores:
            self.notes.add(sentence)
        folder, table = self.request.folder, self.suite.table
        write_summary(folder, means)
        written = table.write(folder, rows, self.suite.prompts, self.record) if table is not None else None
        write_record(folder, {**self.record, "finished": True})
        asked = [row for row in rows if row.reward in self.keys and row.seed in self.request.seeds]
        failed, reasons = count_failures(asked)
        return Summary(
            folder,
            tuple(means),
            self.request.total,
            failed,
            reasons,
            tell_failures(asked),
            tuple(self.notes.sentences),
            {table.name: written} if table is not None and written is not None else {},
        )

    def _fetch(self, cells: Sequence[Cell]) -> list[Subject]:
        """A block's images, each with the rewards by which it lacks a score."""
        scored_sha = {cell.key: self._scored_sha(cell) for cell in cells}
        pictures = self.source.fetch(cells, scored_sha)
        for picture in pictures:
            if scored_sha[picture.cell.key] - {picture.file.sha256}:
                self.replaced[picture.cell.key] = picture.file.sha256
        return [self._subject(picture) for picture in pictures]

    def _subject(self, picture: Picture) -> Subject:
        cell = picture.cell
        wanted = tuple(key for key in self.keys if not self._is_done(picture, key))
        names = self.suite.name, self.suite_sha
        return Subject(self.record["run"], cell.prompt, cell.seed, picture.name, picture.file, wanted, *names)

    def _scored_sha(self, cell: Cell) -> set[str]:
        """The images that were there when this cell was scored, or could not be."""
        rows = (self.store.rows.get((*cell.key, key)) for key in self.record["rewards"])
        return {row.image_sha for row in rows if row is not None and row.image_sha}

    def _is_done(self, picture: Picture, key: str) -> bool:
        row = self.store.rows.get((*picture.cell.key, key))
        return row is not None and row.settled and row.image_sha == picture.file.sha256

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
