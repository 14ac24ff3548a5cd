"""A worker, and the thread that hands it tasks, waits for it and replaces it."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image

from rewards.errors import SetupError
from rewards.prompt import Prompt
from rewards.scoring.batch import Scored, put_back, set_broken_aside
from rewards.scoring.salvage import Part, Salvage
from rewards.scoring.worker import LOADING_S, Worker, WorkerLost
from rewards.spec import RewardSpec


@dataclass(frozen=True)
class Batch:
    """Images that wait for their scores by the rewards of these keys."""

    images: list[Image]
    prompts: list[Prompt]
    keys: tuple[str, ...]
    future: "Future[Scored]" = field(default_factory=Future)


@dataclass(frozen=True)
class Question:
    """One of `scoring.questions` that waits for its answer, by the rewards of these keys."""

    name: str
    what: tuple[Any, ...]
    keys: tuple[str, ...]
    future: "Future[Any]" = field(default_factory=Future)


Task = Batch | Question
Tasks = queue.SimpleQueue[Task | None]


class Lane(threading.Thread):
    """One of a pool's threads; it works on tasks until it gets None."""

    def __init__(self, specs: Sequence[RewardSpec], threads: int, deadline_s: float, tasks: Tasks, number: int) -> None:
        super().__init__(name=f"scoring-{number}", daemon=True)
        self.specs, self.threads, self.deadline_s, self.tasks = specs, threads, deadline_s, tasks
        self._change = threading.Lock()
        self._closed = False
        self.worker = Worker(specs, threads)

    def run(self) -> None:
        while (task := self.tasks.get()) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(self._score(task) if isinstance(task, Batch) else self._answer(task))
            except BaseException as error:  # whoever waits for the future gets it
                task.future.set_exception(error)
        self.worker.leave()

    def close(self) -> None:
        """End the worker and start no other."""
        with self._change:
            self._closed = True
            self.worker.kill()

    def _replace_worker(self) -> None:
        with self._change:
            self.worker.kill()
            self.worker.leave()
            if self._closed:
                raise SetupError("the scoring pool was closed before these scores were made")
            self.worker = Worker(self.specs, self.threads)

    def _score(self, batch: Batch) -> Scored:
        """Every image by every reward, in as many parts as it takes to keep those apart that kill or hang."""
        broken, images, prompts = set_broken_aside(batch.images, batch.prompts)
        salvage = Salvage(batch.keys, len(images))
        parts = [Part(batch.keys, range(len(images)))] if images else []
        while parts:
            part = parts.pop()
            some = [images[place] for place in part.places], [prompts[place] for place in part.places]
            try:
                salvage.fill(part, self.worker.score(part.keys, *some, self.deadline_s))
            except WorkerLost as lost:
                self._replace_worker()
                parts += salvage.cut(part, lost, self.deadline_s)
                if salvage.deaths >= salvage.most and parts:
                    salvage.give_up(parts)
                    break
        return put_back(broken, salvage.scored)

    def _answer(self, question: Question) -> Any:
        try:
            return self.worker.ask(question.name, question.keys, question.what, self.deadline_s + LOADING_S)
        except WorkerLost as lost:
            self._replace_worker()
            who = lost.key or " or ".join(question.keys or [spec.key for spec in self.specs])
            fault = (
                f"did not answer within {self.deadline_s + LOADING_S:g} s and was ended: does it wait for something?"
                if lost.hung
                else "died (a crash, a kill, or out of memory): give this command more memory, or go on without it."
            )
            raise SetupError(f"The process that was asked about {who} before any score was wanted {fault}") from None


class Crew:
    """Workers that build the same rewards and take tasks from one queue."""

    def __init__(self, specs: Sequence[RewardSpec], workers: int, threads: int, deadline_s: float) -> None:
        self.keys = {spec.key for spec in specs}
        self.workers = workers
        self.tasks: Tasks = queue.SimpleQueue()
        self._lanes = [Lane(specs, threads, deadline_s, self.tasks, number) for number in range(workers)]
        for lane in self._lanes:
            lane.start()

    def dismiss(self) -> None:
        """Let each end when all tasks before are done."""
        for _ in self._lanes:
            self.tasks.put(None)

    def join(self, end: float | None) -> None:
        """Until all have ended, or that moment of the monotonic clock."""
        for lane in self._lanes:
            lane.join(None if end is None else max(0.0, end - time.monotonic()))

    def drop(self) -> None:
        """End them, whatever they do; what waits is cancelled."""
        for lane in self._lanes:
            lane.close()
        while not self.tasks.empty():
            task = self.tasks.get()
            if task is not None:
                task.future.cancel()
