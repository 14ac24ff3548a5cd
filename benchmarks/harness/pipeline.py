"""From images to rows: while the images of some batches are scored, those of the next are drawn or read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

from benchmarks.harness.rows import Subject
from benchmarks.harness.store import Row
from rewards.pool import Scored, ScoringPool
from rewards.prompt import Prompt


def score_ahead(batches: Iterable[Sequence[Subject]], pool: ScoringPool) -> Iterator[list[list[Row]]]:
    """For each batch, in order, the new rows of each of its subjects: one for each reward that was wanted.

    As many batches are with the pool as it has workers, and the next one is asked for before the first is waited for.
    """
    begun: deque[_Batch] = deque()
    for batch in batches:
        begun.append(_Batch(batch, pool))
        if len(begun) > max(pool.workers, 1):
            yield begun.popleft().rows()
    while begun:
        yield begun.popleft().rows()


class _Batch:
    """Subjects on their way through the pool: those by equal rewards go together."""

    def __init__(self, subjects: Sequence[Subject], pool: ScoringPool) -> None:
        self.subjects = subjects
        alike: dict[tuple[str, ...], list[Subject]] = {}
        for subject in subjects:
            if subject.file.image is not None and subject.wanted:
                alike.setdefault(subject.wanted, []).append(subject)
        self.parts: list[tuple[list[Subject], Future[Scored]]] = []
        for keys, part in alike.items():
            images = [subject.file.image for subject in part if subject.file.image is not None]
            prompts = [subject.prompt or Prompt("") for subject in part]
            self.parts.append((part, pool.submit(images, prompts, keys)))

    def rows(self) -> list[list[Row]]:
        """Waits for the scores."""
        made: dict[int, list[Row]] = {}
        for part, future in self.parts:
            scored = future.result()
            for place, subject in enumerate(part):
                made[id(subject)] = [
                    subject.scored(key, scored.scores[key][place], scored.seconds[key]) for key in subject.wanted
                ]
        return [made.get(id(one)) or [one.without_image(key) for key in one.wanted] for one in self.subjects]
