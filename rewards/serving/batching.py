"""Requests of many clients, merged into batches: a bounded queue, and threads that empty it."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import TypeAlias

from PIL.Image import Image

from rewards.pool import Scored
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.serving.limits import Refusal

_END_S = 5.0
Submit: TypeAlias = Callable[[str, Sequence[Image], Sequence[Prompt]], "Future[Scored]"]


@dataclass(frozen=True)
class Answer:
    """Scores of one job's images, in order, the size of the batch it went with, and the seconds it waited for it."""

    scores: list[Score]
    batch: int
    waited: float


@dataclass(frozen=True, eq=False)
class Job:
    """Images of one request, on their way; cancelling the future takes it out of the queue."""

    key: str
    images: Sequence[Image]
    prompts: Sequence[Prompt]
    future: "Future[Answer]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Scores the jobs of one reward in batches, oldest first; use as a context manager.

    A batch is as many whole jobs as fit into `batch` images; where fewer are waiting, it
    leaves `wait_s` after the oldest arrived. More than `capacity` images do not wait.

    Args:
        submit: starts to score a batch by the reward of that key.
        lanes: batches that are scored at the same time.
        on_batch: told the key and size of each batch.
    """

    def __init__(
        self,
        submit: Submit,
        *,
        batch: int,
        wait_s: float,
        capacity: int,
        lanes: int = 1,
        on_batch: Callable[[str, int], None] = lambda key, size: None,
    ) -> None:
        self.submit_batch, self.batch, self.wait_s, self.capacity = submit, batch, wait_s, capacity
        self.on_batch = on_batch
        self._queue: list[Job] = []
        self._change = threading.Condition()
        self._closed = False
        names = [f"batches-{number}" for number in range(lanes)]
        self._lanes = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]

    def __enter__(self) -> "Batcher":
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Score what is queued, and end; what hangs is left behind."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for lane in self._lanes:
            lane.join(_END_S)

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        with self._change:
            return self._count()

    def put(self, job: Job) -> None:
        """Queue a job. Refusal: 429 the queue is full, 503 this server is stopping."""
        with self._change:
            if self._closed:
                raise Refusal(503, "This server is stopping.", 5.0)
            waiting = self._count()
            if waiting and waiting + len(job.images) > self.capacity:
                raise Refusal(429, f"{waiting} images are waiting, and the queue holds {self.capacity}.", 1.0)
            self._queue.append(job)
            self._change.notify_all()

    def _count(self) -> int:
        return sum(len(job.images) for job in self._queue)

    def _work(self) -> None:
        while jobs := self._take():
            self._score(jobs)

    def _take(self) -> list[Job]:
        """The next batch, or nothing when there will be none."""
        with self._change:
            while True:
                self._queue = [job for job in self._queue if not job.future.cancelled()]
                if not self._queue:
                    if self._closed:
                        return []
                    self._change.wait()
                    continue
                jobs = self._oldest()
                rest = self._queue[0].arrived + self.wait_s - time.monotonic()
                if self._closed or rest <= 0 or sum(len(job.images) for job in jobs) >= self.batch:
                    self._queue = [job for job in self._queue if job not in jobs]
                    return jobs
                self._change.wait(rest)

    def _oldest(self) -> list[Job]:
        jobs, size = [], 0
        for job in self._queue:
            if not jobs or size + len(job.images) <= self.batch:
                jobs.append(job)
                size += len(job.images)
        return jobs

    def _score(self, jobs: list[Job]) -> None:
        taken = time.monotonic()
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        if not jobs:
            return
        images = [image for job in jobs for image in job.images]
        prompts = [prompt for job in jobs for prompt in job.prompts]
        self.on_batch(jobs[0].key, len(images))
        pending = self.submit_batch(jobs[0].key, images, prompts)
        error = _error_of(pending)
        if error is None:
            scores = iter(pending.result().scores[jobs[0].key])
            for job in jobs:
                mine = [next(scores) for _ in job.images]
                job.future.set_result(Answer(mine, len(images), taken - job.arrived))
        elif len(jobs) == 1:
            jobs[0].future.set_exception(error)
        else:
            for job in jobs:
                self._score_alone(job, taken)

    def _score_alone(self, job: Job, taken: float) -> None:
        """A bug that one client's request runs into does not reach those it was merged with."""
        pending = self.submit_batch(job.key, job.images, job.prompts)
        error = _error_of(pending)
        if error is not None:
            job.future.set_exception(error)
        else:
            scores = pending.result().scores[job.key]
            job.future.set_result(Answer(scores, len(job.images), taken - job.arrived))


def _error_of(pending: "Future[Scored]") -> BaseException | None:
    """Waits; being dropped at the end of the server is an error like others."""
    try:
        return pending.exception()
    except CancelledError as error:
        return error
