"""The contract of a suite's own table: what is known of a model by its tasks, which no mean over all prompts tells.

A suite has one in `KnownSuite.table`. Evaluations write it, the screen and --json show it, and `dgpo compare --table`
takes published rows from it; none of them knows whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.store import Row
from rewards.prompt import Prompt

if TYPE_CHECKING:
    from benchmarks.reading.results import Results


@dataclass(frozen=True)
class ScreenTable:
    """A table for a person, and sentences under it; numbers are there as they are to be read."""

    head: tuple[str, ...]
    lines: tuple[tuple[Any, ...], ...]
    under: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """What a table says of one evaluation, when its files are written."""

    shown: tuple[ScreenTable, ...]
    described: Mapping[str, Any]
    """The same for --json, as plain values."""


@dataclass(frozen=True)
class PaperRow:
    """A model's row in a published table: by which reward's key it was made, and the cells under the heads."""

    key: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class PublishedTable:
    """A paper's table of this suite alone, and how a results folder gets a row in it."""

    title: str
    source: str
    """What is said of its rows: where they were published, and how they were made."""
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    row_of: Callable[[Results], PaperRow]
    """Raises UsageError for a folder whose scores make none."""


class SuiteTable:
    """Made once for a suite; what it is told are rows of scores.csv, the suite's prompts, and run.json."""

    name: str
    """Under which --json has it."""

    @property
    def published(self) -> PublishedTable | None:
        """A paper's table of it, for `dgpo compare --table`."""
        return None

    def fits(self, prompts: Sequence[Prompt]) -> bool:
        """Whether prompts of a file are the suite's, so that the file has the table too."""
        return False

    def write(
        self, folder: Path, rows: Sequence[Row], prompts: Sequence[Prompt], record: Mapping[str, Any]
    ) -> Written | None:
        """Write the table's files into a results folder; None where no reward was asked that it is made from."""
        raise NotImplementedError(f"{type(self).__name__} is a table that is not written")

    def headline(self, run: Results) -> PaperRow | None:
        """The one number that stands for the suite among others, as one cell; None where its reward was not asked."""
        return None
