"""What rows say so far, for a line of progress and the table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.harness.store import Row


@dataclass
class Tally:
    """What the rows say so far, reward by reward; `failed` are the images that lack a score."""

    keys: Sequence[str]
    sums: dict[str, float] = field(default_factory=dict)
    scored: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failed: set[tuple[str, str, int]] = field(default_factory=set)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.score is not None:
                self.sums[row.reward] = self.sums.get(row.reward, 0.0) + row.score
                self.scored[row.reward] += 1
            else:
                self.failures[row.reward] += 1
                self.reasons[row.detail] += 1
                self.failed.add((row.image, row.prompt_id, row.seed))

    def listen(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows, each of which has been added before it is handed on."""
        for row in rows:
            self.add((row,))
            yield row

    def mean(self, key: str) -> float | None:
        return self.sums[key] / self.scored[key] if self.scored[key] else None
