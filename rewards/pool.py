"""Score images beside the drawing: worker processes that are replaced when they die or hang."""

import queue
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import NamedTuple

from PIL.Image import Image

from rewards.errors import DgpoError, SetupError
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.reward import DEADLINE_S, Reward
from rewards.score import DEADLY, Score
from rewards.scoring.batch import Scored, put_back, score_batch, set_broken_aside
from rewards.scoring.worker import Lost, Worker
from rewards.spec import RewardSpec

_END_S = 1.0


class ScoringPool:
    """Worker processes that score batches; use as a context manager.

    Each worker is a fresh process that builds every reward once and computes with `threads` threads: one beside a model
    that draws, more where the cores are idle. One that dies (out of memory, kill -9, a crash) is replaced, and its
    batch is cut until the image that kills is alone: that one fails. One that takes longer than `deadline_s` for a
    batch is replaced too, and the images fail for the reward that it was at. Leaving by an error ends all at once.

    With workers=0 the scores are made here, before `submit` returns; they are the same, but nothing guards against a
    reward that hangs or dies.
    """

    def __init__(
        self, specs: Sequence[RewardSpec], workers: int, threads: int = 1, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self.specs = tuple(specs)
        self.workers = workers
        self.threads = threads
        self.deadline_s = deadline_s
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lanes: list[_Lane] = []

    def __enter__(self) -> "ScoringPool":
        if self.workers == 0:
            _build(self.specs)
        self._lanes = [_Lane(self, self._tasks, number) for number in range(self.workers)]
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.drop()
        for _ in self._lanes:
            self._tasks.put(None)
        end = time.monotonic() + _END_S
        for lane in self._lanes:
            lane.join(None if kind is None else max(0.0, end - time.monotonic()))
        self._lanes = []

    def drop(self) -> None:
        """End the workers, whatever they do; what waits is cancelled."""
        for lane in self._lanes:
            lane.close()
        while not self._tasks.empty():
            task = self._tasks.get()
            if task is not None:
                task.future.cancel()

    def submit(
        self, images: Sequence[Image], prompts: Sequence[Prompt], keys: Collection[str] | None = None
    ) -> "Future[Scored]":
        """Queue a batch and return at once; the future holds its Scored, or raises what a reward or wrong use raised.

        `keys` are the rewards that are wanted, otherwise all of the pool's.
        """
        wanted = tuple(spec.key for spec in self.specs if keys is None or spec.key in keys)
        task = _Task(list(images), list(prompts), wanted)
        if self.workers == 0:
            rewards = _build(self.specs)
            try:
                task.future.set_result(score_batch({key: rewards[key] for key in wanted}, images, prompts))
            except DgpoError as error:
                task.future.set_exception(error)
        elif not self._lanes:
            raise RuntimeError("the scoring pool is not open; use it in a with statement")
        else:
            self._tasks.put(task)
        return task.future


@cache
def _build(specs: tuple[RewardSpec, ...]) -> dict[str, Reward]:
    return {spec.key: load(spec) for spec in specs}


@dataclass(frozen=True)
class _Task:
    """A batch that waits for its scores."""

    images: list[Image]
    prompts: list[Prompt]
    keys: tuple[str, ...]
    future: "Future[Scored]" = field(default_factory=Future)


class _Part(NamedTuple):
    """Some images of a batch (by their places), to be judged by some rewards; `killed` before, if it is one image."""

    keys: tuple[str, ...]
    places: Sequence[int]
    killed: bool = False


class _Lane(threading.Thread):
    """A worker, and the thread that hands it tasks, waits for it and replaces it."""

    def __init__(self, pool: ScoringPool, tasks: "queue.SimpleQueue[_Task | None]", number: int) -> None:
        super().__init__(name=f"scoring-{number}", daemon=True)
        self.pool, self.tasks = pool, tasks
        self._change = threading.Lock()
        self._closed = False
        self.worker = self._start_worker()

    def run(self) -> None:
        while (task := self.tasks.get()) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(self._score(task))
            except BaseException as error:  # whoever waits for the future gets it
                task.future.set_exception(error)
        self.worker.leave()

    def close(self) -> None:
        """End the worker and start no other."""
        with self._change:
            self._closed = True
            self.worker.kill()

    def _start_worker(self) -> Worker:
        return Worker(self.pool.specs, self.pool.threads)

    def _replace_worker(self) -> None:
        with self._change:
            self.worker.kill()
            self.worker.leave()
            if self._closed:
                raise SetupError("the scoring pool was closed before these scores were made")
            self.worker = self._start_worker()

    def _score(self, task: _Task) -> Scored:
        """Every image by every reward, in as many parts as it takes to keep those apart that kill or hang."""
        broken, images, prompts = set_broken_aside(task.images, task.prompts)
        sheet = _Sheet(task.keys, len(images))
        parts = [_Part(task.keys, range(len(images)))] if images else []
        while parts:
            part = parts.pop()
            some = [images[place] for place in part.places], [prompts[place] for place in part.places]
            try:
                sheet.fill(part, self.worker.ask(part.keys, *some, self.pool.deadline_s))
            except Lost as lost:
                self._replace_worker()
                parts += sheet.cut(part, lost, self.pool.deadline_s)
                if sheet.deaths >= sheet.most and parts:
                    sheet.give_up(parts)
                    break
        return put_back(broken, sheet.scored)


class _Sheet:
    """The scores of a task as they come in, and what is left of a part that its worker was lost with."""

    def __init__(self, keys: tuple[str, ...], count: int) -> None:
        unjudged = Score.failed("not judged")
        self.scored = Scored({key: [unjudged] * count for key in keys}, dict.fromkeys(keys, 0.0))
        self.count = count
        self.deaths = 0
        self.most = 2 + len(keys) - 1 + 3 * (count - 1).bit_length()  # finds two that kill, of any number of images

    def fill(self, part: _Part, scored: Scored) -> None:
        for key in part.keys:
            for place, score in zip(part.places, scored.scores[key], strict=True):
                self.scored.scores[key][place] = score
            self.scored.seconds[key] += scored.seconds[key] * len(part.places) / self.count

    def cut(self, part: _Part, lost: Lost, deadline_s: float) -> list[_Part]:
        """Smaller parts in the place of a lost one, the last being next: by reward, then by halves, then again."""
        self.deaths += 1
        if lost.key is None and not lost.hung:  # it died before it began, which is not this part's doing
            return [part]
        guilty = part._replace(keys=tuple(key for key in part.keys if lost.key in (key, None)))
        others = tuple(key for key in part.keys if key not in guilty.keys)
        rest = [part._replace(keys=others)] if others else []
        if lost.hung:
            self._fail(guilty, f"no scores within {deadline_s:g} s (reward_seconds), so the scoring process was ended")
            return rest
        if rest:
            return [guilty, *rest]
        if len(part.places) > 1:
            middle = len(part.places) // 2
            return [part._replace(places=part.places[middle:]), part._replace(places=part.places[:middle])]
        if not part.killed:
            return [part._replace(killed=True)]
        self._fail(part, f"{DEADLY} (a crash, a kill, or out of memory)")
        return []

    def give_up(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            self._fail(
                part, f"the scoring process died {self.deaths} times on this batch (a crash, a kill, or out of memory)"
            )

    def _fail(self, part: _Part, reason: str) -> None:
        failed = Score.failed(reason)
        self.fill(part, Scored({key: [failed] * len(part.places) for key in part.keys}, dict.fromkeys(part.keys, 0.0)))
