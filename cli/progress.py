"""How far a long job is and when it will be done: a bar on a terminal, elsewhere a line about every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rewards.escape import escape_controls
from rewards.secrets import hide_secrets

if TYPE_CHECKING:
    import rich.progress

SILENCE_S = 10.0


class Progress:
    """Shows a count rising to `total`; use as a context manager.

    `start` is what was done before this process began, so that the time left is judged by this process's own pace.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        unit: str = "images",
        start: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.unit, self.start = what, total, unit, start
        self.stream = stream or sys.stderr
        self.clock = clock
        self._began = self._said = clock()
        self._ended = False
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        self._began = self._said = self.clock()
        if self.stream.isatty():
            bar = self._bar = _make_bar(self.stream)
            bar.add_task(self.what, total=self.total, completed=self.start, line="")
            bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, start: int) -> None:
        """The work itself begins now, after what had to be done before it, with `start` done already."""
        self.start, self._began = start, self.clock()

    def update(self, done: int, note: str = "") -> None:
        """`done` of `total` are finished; `note` is what else is worth knowing now, such as the mean reward."""
        line = self.describe(done, note)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, line=line)
        elif not self._ended and (self.clock() - self._said >= SILENCE_S or done >= self.total):
            self._said, self._ended = self.clock(), done >= self.total
            print(f"{self.what} {line}", file=self.stream, flush=True)

    def say(self, sentence: str) -> None:
        """A sentence that stays, above the bar."""
        sentence = escape_controls(hide_secrets(sentence))
        if self._bar is not None:
            self._bar.console.print(f"dgpo: {sentence}", markup=False, highlight=False, soft_wrap=True)
        else:
            print(f"dgpo: {sentence}", file=self.stream, flush=True)

    def describe(self, done: int, note: str = "") -> str:
        """For instance `128/640 images, 3 min 20 s left, reward 0.61`."""
        parts = [f"{done}/{self.total} {self.unit}"]
        passed = self.clock() - self._began
        if done >= self.total:
            parts.append(f"in {format_seconds(passed)}")
        elif done > self.start:
            parts.append(f"{format_seconds(passed / (done - self.start) * (self.total - done))} left")
        return ", ".join([*parts, note] if note else parts)


def format_seconds(seconds: float) -> str:
    """A time in the two largest units that matter.

    >>> format_seconds(59.6), format_seconds(200), format_seconds(7260)
    ('1 min 00 s', '3 min 20 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _make_bar(stream: TextIO) -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[line]}", markup=False)
    return Progress(*columns, console=Console(file=stream))
