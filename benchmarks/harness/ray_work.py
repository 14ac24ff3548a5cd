"""What the machines of a Ray cluster do for `dgpo score --engine ray`: read some images, and score them.

What passes between them is a table with one column of pickles, since images under their prompts are no columns of
numbers. An actor scores in processes of its own (`ScoringPool`), as a command without Ray does: an image that kills
or hangs costs itself there and no actor, and scores and reasons are the same.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.harness.draft import Key
from benchmarks.harness.pipeline import score_ahead
from benchmarks.harness.reading import Load, read_batches
from benchmarks.harness.rows import Subject
from benchmarks.harness.score import subjects_of, whole_rows
from benchmarks.harness.store import Row
from rewards.errors import DgpoError, SetupError, UsageError, load_extra
from rewards.pool import RewardFacts, ScoringPool
from rewards.spec import RewardSpec

WORK = "work"
NOTE, USAGE, SETUP = "note", "usage", "setup"


@dataclass(frozen=True)
class Told:
    """A note or an error in words: what a plug-in derives from our errors may not pass to another machine."""

    kind: str
    text: str

    @property
    def error(self) -> DgpoError | None:
        return None if self.kind == NOTE else (UsageError if self.kind == USAGE else SetupError)(self.text)


@dataclass
class Batch:
    """Images that are scored together, on their way from actor to actor."""

    place: tuple[int, int]
    """The number of its portion, and its own in there: batches in this order are the list."""
    subjects: list[Subject] = field(default_factory=list)
    known: Mapping[Key, Row] = field(default_factory=dict)
    new: list[list[Row]] = field(default_factory=list)
    """Of each subject, so far."""
    rows: list[Row] = field(default_factory=list)
    """In the end all of them, known ones too, as a file of scores has them."""
    told: list[Told] = field(default_factory=list)


@dataclass(frozen=True)
class Portion:
    """Loads that one machine reads; what holds many images is opened once for all of them."""

    number: int
    loads: Sequence[Load]
    keys: Sequence[str]
    known: Mapping[Key, Row]

    def read(self) -> Iterator[Batch]:
        for number, pictures in enumerate(read_batches(self.loads)):
            subjects = subjects_of(pictures, self.keys, self.known)
            rows = ((one.name, one.prompt_id, one.seed, key) for one in subjects for key in self.keys)
            known = {key: self.known[key] for key in rows if key in self.known}
            yield Batch((self.number, number), subjects, known, [[] for _ in subjects])


@dataclass(frozen=True)
class Post:
    """What an actor is for.

    Args:
        keys: of all rewards of the command, in the order of its rows.
        folder: where the command was given; relative names of weights mean the same here, if it is there.
        expected: what `identify` has to say, so that no machine scores by other weights than the rest.
        last: whether whole rows are made here, as no other actor comes after it.
    """

    specs: Sequence[RewardSpec]
    keys: Sequence[str]
    threads: int
    deadline_s: float
    folder: str
    expected: Mapping[str, Mapping[str, str]] | None = None
    last: bool = False


def identify(facts: Mapping[str, RewardFacts]) -> dict[str, Mapping[str, str]]:
    """What has to be the same of each reward on all machines: engine, version, weights, source, device."""
    return {key: dict(reward.provenance) for key, reward in facts.items()}


def read(table: Any) -> Iterator[Any]:
    """A task that reads portions where actors with a GPU do not: a batch a row."""
    yield from _told_in_tables(_batches(table))


class Actor:
    """One process of an actor pool; it builds its rewards once, when it has the first images."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self._pool: ScoringPool | None = None
        self._said = _Said()
        if os.path.isdir(post.folder):
            os.chdir(post.folder)
        os.environ["PYTHONSAFEPATH"] = "1"  # and no process that is started from here imports from that folder

    def ask(self, name: str, *what: Any) -> tuple[Any, list[Told]]:
        """The answer of a `ScoringPool`'s method, with what it noted; or its error behind the notes."""
        try:
            return getattr(self._open(), name)(*what), self._said.take()
        except DgpoError as error:
            return None, [*self._said.take(), _in_words(error)]

    def __call__(self, table: Any) -> Iterator[Any]:
        yield from _told_in_tables(self._score(_batches(table)))

    def _score(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        mine = {spec.key for spec in self.post.specs}
        pool = self._open()
        waiting: deque[Batch] = deque()

        def begin(batch: Batch) -> list[Subject]:
            waiting.append(batch)
            wanted = [tuple(key for key in subject.wanted if key in mine) for subject in batch.subjects]
            return [replace(one, wanted=keys) for one, keys in zip(batch.subjects, wanted, strict=True)]

        for new in score_ahead(map(begin, batches), pool):
            batch = waiting.popleft()
            batch.new = [old + more for old, more in zip(batch.new, new, strict=True)]
            batch.told += self._said.take()
            if self.post.last:
                rows = whole_rows(batch.subjects, batch.new, self.post.keys, batch.known)
                batch = Batch(batch.place, rows=rows, told=batch.told)
            yield batch

    def _open(self) -> ScoringPool:
        if self._pool is None:
            post = self.post
            pool = ScoringPool(post.specs, 1, post.threads, deadline_s=post.deadline_s).__enter__()
            if post.expected is not None:
                check_same(identify(pool.facts()), post.expected)
            if load_extra("ray", "ray").get_runtime_context().was_current_actor_reconstructed:
                lost = (
                    f"Ray has lost an actor and started another on {socket.gethostname()}, which does its work again."
                )
                self._said.add(lost)
            self._pool = pool
        return self._pool


def check_same(here: Mapping[str, Mapping[str, str]], expected: Mapping[str, Mapping[str, str]]) -> None:
    """SetupError where a reward on this machine is another than is expected, by `identify`."""
    for key, facts in here.items():
        differ = [name for name in {**expected[key], **facts} if facts.get(name) != expected[key].get(name)]
        if differ:
            there = ", ".join(f"{name} {facts.get(name)!r} in place of {expected[key].get(name)!r}" for name in differ)
            raise SetupError(
                f"On {socket.gethostname()} the reward {key} is another than on the machine that was asked first "
                f"({there}). Give all machines of the cluster the same packages, weights and kind of device."
            )


class _Said(logging.Handler):
    """What rewards have to tell while they score, kept until it goes with a batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[Told] = deque()
        logging.getLogger("rewards").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.add(record.getMessage())

    def add(self, sentence: str) -> None:
        self._kept.append(Told(NOTE, sentence))

    def take(self) -> list[Told]:
        return [self._kept.popleft() for _ in range(len(self._kept))]


def _in_words(error: DgpoError) -> Told:
    return Told(USAGE if isinstance(error, UsageError) else SETUP, str(error))


def as_table(work: Portion | Batch) -> Any:
    arrow = load_extra("pyarrow", "ray")
    return arrow.table({WORK: arrow.array([pickle.dumps(work)], arrow.large_binary())})


def work_in(table: Any) -> Iterator[Any]:
    for pickled in table[WORK]:
        yield pickle.loads(pickled.as_buffer())


def _batches(table: Any) -> Iterator[Batch]:
    """The batches in a table, or those of the portions that are still to be read."""
    for work in work_in(table):
        if isinstance(work, Portion):
            yield from work.read()
        else:
            yield work


def _told_in_tables(batches: Iterable[Batch]) -> Iterator[Any]:
    """A table a batch; where an error of ours ends them, a last one that tells it."""
    try:
        for batch in batches:
            yield as_table(batch)
    except DgpoError as error:
        yield as_table(Batch((0, 0), told=[_in_words(error)]))
