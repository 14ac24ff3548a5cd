"""Score images beside the drawing: worker processes that are replaced when they die or hang."""

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from PIL.Image import Image

from rewards.errors import DgpoError, UsageError
from rewards.prompt import Prompt
from rewards.registry import build, card_of
from rewards.reward import DEADLINE_S, Reward
from rewards.scoring.allotment import allot, is_on_gpu
from rewards.scoring.batch import Scored, score_batch
from rewards.scoring.lane import Batch, Crew, Question
from rewards.scoring.pieces import Piece, divide, join
from rewards.scoring.questions import QUESTIONS, RewardFacts
from rewards.spec import RewardSpec

__all__ = ["RewardFacts", "Scored", "ScoringPool", "score_batch"]

_END_S = 1.0
_CLOSED = "the scoring pool is not open; use it in a with statement"


class ScoringPool:
    """Worker processes that score batches; use as a context manager.

    Each worker is a fresh process that builds every reward once and computes with `threads` threads: one beside a model
    that draws, more where the cores are idle. One that dies (out of memory, kill -9, a crash) is replaced, and its
    batch is cut until the image that kills is alone: that one fails. One that takes longer than `deadline_s` for a
    batch is replaced too, and the images fail for the reward that it was at. Leaving by an error ends all at once.

    What is to be known of the rewards (`facts`, `find_problems`, `verify`) is asked of a worker too, so that no reward
    is built, and no network of one loaded, in the process that draws.

    Workers share a batch where scores are the same to the last bit however it is divided (`Card.alone`), so that none
    idles while another reads sixteen images. Rewards whose networks are on a GPU have one process of their own, beside
    the `workers` of all others (`scoring.allotment`); both kinds score a batch at the same time.

    With workers=0 all of it happens here, before `submit` returns; the scores are the same, but nothing guards against
    a reward that hangs or dies.
    """

    def __init__(
        self, specs: Sequence[RewardSpec], workers: int, threads: int = 1, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self.specs = tuple(specs)
        self.workers = workers
        self.threads = threads
        self.deadline_s = deadline_s
        self._crews: list[Crew] = []
        self._here: dict[str, Reward] = {}
        self._facts: dict[str, RewardFacts] = {}

    def __enter__(self) -> "ScoringPool":
        if self.workers == 0:
            self._here.update(build(self.specs))
        else:
            for specs, workers in allot(self.specs, self.workers, is_on_gpu):
                self._crews.append(Crew(specs, workers, self.threads, self.deadline_s))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.drop()
        for crew in self._crews:
            crew.dismiss()
        end = time.monotonic() + _END_S
        for crew in self._crews:
            crew.join(None if kind is None else end)
        self._crews.clear()
        self._here.clear()

    def drop(self) -> None:
        """End the workers, whatever they do; what waits is cancelled."""
        for crew in self._crews:
            crew.drop()

    def limited_to(self, specs: Collection[RewardSpec]) -> "ScoringPool":
        """The same open pool, for somebody who wants some of its rewards only.

        Raises:
            UsageError: it does not score by one of them.
        """
        absent = [spec.key for spec in specs if spec not in self.specs]
        if absent:
            raise UsageError(f"The scoring pool was opened without {', '.join(absent)}; open it with them too.")
        part = copy.copy(self)
        part.specs = tuple(spec for spec in self.specs if spec in specs)
        return part

    def submit(
        self, images: Sequence[Image], prompts: Sequence[Prompt], keys: Collection[str] | None = None
    ) -> "Future[Scored]":
        """Queue a batch and return at once; the future holds its Scored, or raises what a reward or wrong use raised.

        `keys` are the rewards that are wanted, otherwise all of the pool's.
        """
        batch = Batch(list(images), list(prompts), self._keys(keys))
        if self.workers == 0:
            try:
                batch.future.set_result(score_batch(self._some(batch.keys), images, prompts))
            except DgpoError as error:
                batch.future.set_exception(error)
            return batch.future
        alone = [spec.key for spec in self.specs if card_of(spec).alone]
        pieces: list[Piece] = []
        for crew, keys in self._crews_of(batch.keys):
            part = batch if keys == batch.keys else Batch(batch.images, batch.prompts, keys)
            mine = divide(part, alone, crew.workers)
            for piece, _ in mine:
                crew.tasks.put(piece)
            pieces += mine
        return join(batch, pieces)

    def wait_until_built(self) -> None:
        """Nothing is asked of the rewards; they are there.

        Raises:
            SetupError: some cannot be built: a line for each, and how to get what is missing.
        """
        self._ask("verify", ())

    def facts(self) -> Mapping[str, RewardFacts]:
        """What a record tells of each reward, by its key; its weights are hashed for it, the first time."""
        unknown = [spec.key for spec in self.specs if spec.key not in self._facts]
        if unknown:
            self._facts |= self._ask("tell_facts", unknown)
        return {spec.key: self._facts[spec.key] for spec in self.specs}

    def find_problems(
        self, prompts: Sequence[Prompt], keys: Collection[str] | None = None
    ) -> Mapping[str, list[str | None]]:
        """By each reward, for each prompt, why no image of it can be judged; None where one can."""
        return self._ask("find_problems", keys, tuple(prompts))

    def verify(self) -> None:
        """Have each reward that can do so try what it has loaded; costs a few images.

        Raises:
            SetupError: one of them plainly judges nothing.
        """
        self._ask("verify", None)

    def _ask(self, name: str, keys: Collection[str] | None, *what: object) -> Any:
        wanted = self._keys(keys)
        if self.workers == 0:
            return QUESTIONS[name](self._some(wanted), *what)
        questions = []
        for crew, some in self._crews_of(wanted):
            questions.append(Question(name, what, some))
            crew.tasks.put(questions[-1])
        answers = [question.future.result() for question in questions]
        return {key: answer for one in answers if one is not None for key, answer in one.items()}

    def _keys(self, keys: Collection[str] | None) -> tuple[str, ...]:
        return tuple(spec.key for spec in self.specs if keys is None or spec.key in keys)

    def _some(self, keys: Sequence[str]) -> dict[str, Reward]:
        if any(key not in self._here for key in keys):
            raise RuntimeError(_CLOSED)
        return {key: self._here[key] for key in keys}

    def _crews_of(self, keys: tuple[str, ...]) -> list[tuple[Crew, tuple[str, ...]]]:
        """Who scores by which of these rewards; without any, everybody."""
        if not self._crews:
            raise RuntimeError(_CLOSED)
        shares = [(crew, tuple(key for key in keys if key in crew.keys)) for crew in self._crews]
        return [(crew, some) for crew, some in shares if some or not keys]
