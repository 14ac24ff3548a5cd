"""A process that scores batches and answers questions, one after another, and what its owner hears of it.

It builds every reward once, has its own threads, prints to stderr, ignores Ctrl-C (its owner decides what that
means), and is gone when its owner is. It may hang, or die of an image; `Worker.ask` then raises `WorkerLost`.
"""

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection, get_context, parent_process
from typing import Any

from PIL.Image import Image

from rewards.errors import DgpoError, SetupError, UsageError
from rewards.prompt import Prompt
from rewards.registry import build
from rewards.scoring.batch import Scored, score_batch
from rewards.scoring.questions import QUESTIONS
from rewards.scoring.reward_faults import broke_off
from rewards.spec import RewardSpec

log = logging.getLogger(__name__)

LOADING_S = 3600.0  # for building the rewards, and besides for the first batch of each, which often loads its weights
SCORE = "score"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_LOOK_S = 1.0  # between two looks whether it lives: what it has forked keeps its pipe open
_LEAVE_S = 2.0


class WorkerLost(Exception):
    """The process is gone: it died, or it `hung` and was ended; `key` is the reward it was at, if any."""

    def __init__(self, key: str | None, *, hung: bool) -> None:
        super().__init__("hung" if hung else "died")
        self.key, self.hung = key, hung


class Worker:
    """One scoring process, owned by one thread; only `kill` may be called by others."""

    def __init__(self, specs: Sequence[RewardSpec], threads: int) -> None:
        context = get_context("spawn")
        self._line, far = context.Pipe()
        self._process = context.Process(target=_work, args=(far, tuple(specs), threads))
        self._process.start()
        far.close()
        self._ready = False
        self._met: set[str] = set()
        atexit.register(self.kill)

    def score(
        self, keys: Sequence[str], images: Sequence[Image], prompts: Sequence[Prompt], deadline_s: float
    ) -> Scored:
        """The scores of a batch by the rewards of these keys.

        Raises:
            WorkerLost: it died or took longer than the deadline; another worker has to go on.
            DgpoError: what score_batch raises.
        """
        patience_s = deadline_s if self._met.issuperset(keys) else deadline_s + LOADING_S
        scored = self.ask(SCORE, keys, (list(images), list(prompts)), patience_s)
        self._met.update(keys)
        return scored

    def ask(self, name: str, keys: Sequence[str], what: Sequence[Any], deadline_s: float) -> Any:
        """The answer to one of `scoring.questions` by the rewards of these keys; raises what `score` does."""
        if not self._ready:
            self._ready = self._hear(LOADING_S)
        try:
            self._line.send((name, tuple(keys), tuple(what)))
        except OSError:
            raise WorkerLost(None, hung=False) from None
        return self._hear(deadline_s)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def leave(self) -> None:
        """Let it end by itself if it is idle, and see that it is gone."""
        self._line.close()
        self._process.join(_LEAVE_S)
        self._process.kill()
        self._process.join()
        atexit.unregister(self.kill)

    def _hear(self, seconds: float) -> Any:
        """What it answers; notes on the way are passed on."""
        end, key = time.monotonic() + seconds, None
        while True:
            kind, what = self._next(end, key)
            if kind == "answer":
                return what
            if kind == "at":
                key = what
            elif kind == "note":
                log.warning("%s", what)
            else:
                raise (UsageError if kind == "usage" else SetupError)(what)

    def _next(self, end: float, key: str | None) -> tuple[str, Any]:
        while not self._line.poll(max(0.0, min(_LOOK_S, end - time.monotonic()))):
            if not self._process.is_alive() and not self._line.poll():
                raise WorkerLost(key, hung=False)
            if time.monotonic() >= end:
                self.kill()
                raise WorkerLost(key, hung=True)
        try:
            return self._line.recv()
        except (EOFError, OSError):
            raise WorkerLost(key, hung=False) from None


class _Owner(logging.Handler):
    """The owner's end of the pipe; threads take turns."""

    def __init__(self, line: connection.Connection) -> None:
        super().__init__(logging.WARNING)
        self.line, self.turn = line, threading.Lock()

    def tell(self, kind: str, what: Any) -> None:
        try:
            with self.turn:
                self.line.send((kind, what))
        except ConnectionError:
            os._exit(0)  # the owner left while this was on its way, and nobody waits for it

    def emit(self, record: logging.LogRecord) -> None:
        self.tell("note", record.getMessage())


def _work(line: connection.Connection, specs: tuple[RewardSpec, ...], threads: int) -> None:
    """The life of the process."""
    owner = _Owner(line)
    _settle_in(owner, threads)
    try:
        rewards = build(specs)
    except DgpoError as error:
        owner.tell(*_told(error))
        return
    owner.tell("answer", True)
    work = {**QUESTIONS, SCORE: score_batch}
    while (question := _receive(line)) is not None:
        name, keys, what = question
        try:
            answer = work[name]({key: rewards[key] for key in keys}, *what, lambda key: owner.tell("at", key))
        except DgpoError as error:
            owner.tell(*_told(error))
        except KeyboardInterrupt as error:  # of a reward's own making, since Ctrl-C is not heard here
            owner.tell(*_told(broke_off(" or ".join(keys), error)))
        else:
            owner.tell("answer", answer)


def _receive(line: connection.Connection) -> Any:
    """The next question, or None when there will be none."""
    try:
        return line.recv()
    except (EOFError, ConnectionError):
        return None


def _told(error: DgpoError) -> tuple[str, str]:
    """An error as plain words: what a plug-in derives from ours may not pass through a pipe."""
    return "usage" if isinstance(error, UsageError) else "setup", str(error)


def _settle_in(owner: _Owner, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    for name in _THREADS:
        os.environ[name] = str(threads)
    sys.stdout.flush()
    os.dup2(2, 1)
    notes = logging.getLogger("rewards")
    notes.addHandler(owner)
    notes.propagate = False


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
