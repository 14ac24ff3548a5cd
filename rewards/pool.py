"""Score images beside the drawing: worker processes that are replaced when they die, and one place for failures."""

import os
import queue
import signal
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import connection, get_context, parent_process
from types import TracebackType

from PIL.Image import Image

from rewards.errors import DgpoError, ScoringError
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.reward import Reward
from rewards.score import Score
from rewards.spec import RewardSpec

# What libraries raise when one input is beyond them. Anything else (a TypeError, say) is a bug and ends the run.
_ENGINE_FAILURES = (ScoringError, RuntimeError, OSError, ValueError, ArithmeticError, MemoryError)
_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_TRIES = 2


@dataclass(frozen=True)
class Scored:
    """Scores of one batch: for each reward's key one score an image, in order, and the seconds an image took."""

    scores: dict[str, list[Score]]
    seconds: dict[str, float]


def score_batch(rewards: Mapping[str, Reward], images: Sequence[Image], prompts: Sequence[Prompt]) -> Scored:
    """Judge every image by every reward; the one place where an engine's exception becomes a failed score.

    When a batch fails as a whole, its images are judged one by one, so that only the guilty ones fail. An image that
    cannot be decoded fails for every reward. Rewards that wait for a server (`remote`) do so while the others compute.
    """
    broken, images, prompts = _set_broken_aside(images, prompts)
    remote = [key for key, reward in rewards.items() if getattr(reward, "remote", False)]
    with ThreadPoolExecutor(max(len(remote), 1), thread_name_prefix="waiting") as waiting:
        begun = {key: waiting.submit(_score_timed, rewards[key], images, prompts) for key in remote}
        timed = {key: _score_timed(rewards[key], images, prompts) for key in rewards if key not in begun}
        timed |= {key: future.result() for key, future in begun.items()}
    scores = {key: timed[key][0] for key in rewards}
    return _put_back(broken, Scored(scores, {key: timed[key][1] for key in rewards}))


class ScoringPool:
    """Worker processes that score batches; use as a context manager.

    Each worker is a fresh process that builds every reward once and computes with `threads` threads: one beside a model
    that draws, more where the cores are idle. One that dies (out of memory, kill -9)
    is replaced and its batch tried once more; a batch that kills two workers has failed scores. With workers=0 the
    scores are made here, before `submit` returns; they are the same.
    """

    def __init__(self, specs: Sequence[RewardSpec], workers: int, threads: int = 1) -> None:
        self.specs = tuple(specs)
        self.workers = workers
        self.threads = threads
        self._idle: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> "ScoringPool":
        if self.workers == 0:
            _build(self.specs)
            return self
        for _ in range(self.workers):
            self._idle.put(self._start_worker())
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="scoring")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._threads is None:
            return
        self._threads.shutdown(cancel_futures=kind is not None)
        self._threads = None
        for _ in range(self.workers):
            self._idle.get().shutdown(cancel_futures=True)

    def submit(
        self, images: Sequence[Image], prompts: Sequence[Prompt], keys: Collection[str] | None = None
    ) -> "Future[Scored]":
        """Queue a batch and return at once; the future holds its Scored, or raises what a bug or wrong use raised.

        `keys` are the rewards that are wanted, otherwise all of the pool's.
        """
        wanted = tuple(spec.key for spec in self.specs if keys is None or spec.key in keys)
        if self.workers == 0:
            future: Future[Scored] = Future()
            try:
                future.set_result(score_batch(_choose(self.specs, wanted), images, prompts))
            except DgpoError as error:
                future.set_exception(error)
            return future
        if self._threads is None:
            raise RuntimeError("the scoring pool is not open; use it in a with statement")
        return self._threads.submit(self._run, list(images), list(prompts), wanted)

    def _run(self, images: list[Image], prompts: list[Prompt], wanted: tuple[str, ...]) -> Scored:
        broken, images, prompts = _set_broken_aside(images, prompts)
        worker = self._idle.get()
        try:
            for _ in range(_TRIES):
                worker, sound = self._attempt(worker, images, prompts, wanted)
                if sound is not None:
                    return _put_back(broken, sound)
        finally:
            self._idle.put(worker)
        failed = Score.failed(f"the scoring process died {_TRIES} times on this batch (killed, or out of memory)")
        return _put_back(broken, Scored({key: [failed] * len(images) for key in wanted}, dict.fromkeys(wanted, 0.0)))

    def _attempt(
        self, worker: ProcessPoolExecutor, images: list[Image], prompts: list[Prompt], wanted: tuple[str, ...]
    ) -> tuple[ProcessPoolExecutor, Scored | None]:
        """One try in one worker; None, and a new worker, when the worker died of it."""
        try:
            pending = worker.submit(_score_in_worker, self.specs, wanted, images, prompts)
        except BrokenProcessPool:  # it died while idle, which is not this batch's doing
            worker = self._start_worker()
            pending = worker.submit(_score_in_worker, self.specs, wanted, images, prompts)
        error = pending.exception()
        if isinstance(error, BrokenProcessPool):
            return self._start_worker(), None
        return worker, pending.result()

    def _start_worker(self) -> ProcessPoolExecutor:
        worker = ProcessPoolExecutor(1, get_context("spawn"), _prepare_worker, (self.threads,))
        worker.submit(_build, self.specs)  # so that the first batch does not wait for the weights
        return worker


@cache
def _build(specs: tuple[RewardSpec, ...]) -> dict[str, Reward]:
    return {spec.key: load(spec) for spec in specs}


def _choose(specs: tuple[RewardSpec, ...], wanted: tuple[str, ...]) -> dict[str, Reward]:
    rewards = _build(specs)
    return {key: rewards[key] for key in wanted}


def _score_in_worker(
    specs: tuple[RewardSpec, ...], wanted: tuple[str, ...], images: list[Image], prompts: list[Prompt]
) -> Scored:
    return score_batch(_choose(specs, wanted), images, prompts)


def _prepare_worker(threads: int) -> None:
    """So many threads, deaf to Ctrl-C (the parent decides what that means), and gone when the parent is."""
    for name in _THREADS:
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _score_timed(reward: Reward, images: Sequence[Image], prompts: Sequence[Prompt]) -> tuple[list[Score], float]:
    """The scores, and the seconds that an image took."""
    start = time.perf_counter()
    scores = _score_safely(reward, images, prompts)
    return scores, (time.perf_counter() - start) / max(len(images), 1)


def _score_safely(reward: Reward, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
    if not images:
        return []
    try:
        scores = reward.score(images, prompts)
    except _ENGINE_FAILURES as error:
        if len(images) == 1:
            return [Score.failed(f"{type(error).__name__}: {error}")]
        pairs = zip(images, prompts, strict=True)
        return [score for image, prompt in pairs for score in _score_safely(reward, [image], [prompt])]
    if len(scores) != len(images):
        raise AssertionError(f"{reward.spec.key} returned {len(scores)} scores for {len(images)} images")
    return [score.checked() for score in scores]


def _set_broken_aside(
    images: Sequence[Image], prompts: Sequence[Prompt]
) -> tuple[dict[int, str], list[Image], list[Prompt]]:
    """Decode every image; position and reason of those that cannot be, and the others with their prompts."""
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
    broken = {}
    for position, image in enumerate(images):
        try:
            image.load()
        except _BROKEN_IMAGE as error:
            broken[position] = f"the image cannot be decoded: {error}"
    sound = [position for position in range(len(images)) if position not in broken]
    return broken, [images[position] for position in sound], [prompts[position] for position in sound]


def _put_back(broken: Mapping[int, str], sound: Scored) -> Scored:
    if not broken:
        return sound
    return Scored({key: _interleave(broken, scores) for key, scores in sound.scores.items()}, sound.seconds)


def _interleave(broken: Mapping[int, str], scores: Sequence[Score]) -> list[Score]:
    rest = iter(scores)
    positions = range(len(scores) + len(broken))
    return [Score.failed(broken[position]) if position in broken else next(rest) for position in positions]
