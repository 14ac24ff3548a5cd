"""Files that are written beside the loop, in the order in which they were handed over."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

Job = Callable[[], object]


class Writer:
    """Does jobs in a thread, one at a time; what goes wrong in one is raised at the next moment that asks.

    A process that ends without waiting leaves the job in hand half done, as a kill does: a job moves what it has
    written to its place in one step.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Job, threading.Event]] = SimpleQueue()
        self._problem: BaseException | None = None
        self._last = _done()
        self._large = _done()
        self._thread: threading.Thread | None = None

    def hand(self, job: Job, *, large: bool = False) -> None:
        """Have a job done. A `large` one, which holds much memory until it is done, waits for the one before it.

        Raises:
            Exception: what went wrong in an earlier job; this one is not begun.
        """
        if large:
            self._large.wait()
        self.check()
        self._last = threading.Event()
        if large:
            self._large = self._last
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="writing")
            self._thread.start()
        self._jobs.put((job, self._last))

    def check(self) -> None:
        """Raise what went wrong in a job, once."""
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def wait(self) -> None:
        """Until all is written; raises what went wrong."""
        self._last.wait()
        self.check()

    def wait_quietly(self) -> None:
        """Until all is written, where something else has gone wrong already."""
        with suppress(Exception):
            self.wait()

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                if self._problem is None:  # what follows a failed job may rest on it
                    job()
            except BaseException as problem:  # whoever asks gets it
                self._problem = problem
            finally:
                done.set()


def _done() -> threading.Event:
    event = threading.Event()
    event.set()
    return event
