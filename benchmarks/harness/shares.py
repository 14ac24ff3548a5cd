"""Several processes at one evaluation: blocks of cells are dealt, and words are left for one another by `Peers`.

Which process does a block changes nothing in it, so blocks go to whoever asks next: a slow GPU, or a part that an
earlier command has done, leaves nobody idle. The main process (rank 0) opens the folder, merges, and closes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rewards.files import locked, locked_together

LOCK_FILE = ".lock"
# Processes whose command was killed notice it and leave within this time.
PATIENCE_S = 10.0

Block = TypeVar("Block")


class Peers(Protocol):
    """The processes of one command. Nobody is given up for being slow: whoever started them ends all when one dies."""

    rank: int
    size: int

    def take(self) -> int:
        """The next number from 0 up that no process has taken."""
        ...

    def count(self, finished: int) -> int:
        """Add to the cells finished by all processes, and return the sum."""
        ...

    def tell(self, what: str, words: str) -> None:
        """Leave words for the others under a name."""
        ...

    def hear(self, what: str, meanwhile: Callable[[], object]) -> str:
        """Wait until somebody has left words under this name; `meanwhile` is called every now and then."""
        ...


class Alone:
    """A single process, which has nobody to talk to."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self.taken = 0
        self.finished = 0

    def take(self) -> int:
        self.taken += 1
        return self.taken - 1

    def count(self, finished: int) -> int:
        self.finished += finished
        return self.finished

    def tell(self, what: str, words: str) -> None: ...

    def hear(self, what: str, meanwhile: Callable[[], object]) -> str:
        raise AssertionError("there is nobody to wait for")


def deal(blocks: Sequence[Block], peers: Peers) -> Iterator[Block]:
    """This process's blocks; each is taken when the one before was begun."""
    while (number := peers.take()) < len(blocks):
        yield blocks[number]


def others(peers: Peers) -> range:
    """The ranks that the main process waits for."""
    return range(1, peers.size)


def report(peers: Peers, facts: Any) -> None:
    """What another process has to tell the main one when it is done, as plain JSON values."""
    peers.tell(f"report-{peers.rank}", json.dumps(facts))


def hear_reports(peers: Peers, meanwhile: Callable[[], object]) -> list[Any]:
    """The reports of all others, in order, once the last is done."""
    return [json.loads(peers.hear(f"report-{rank}", meanwhile)) for rank in others(peers)]


def hold(folder: Path) -> AbstractContextManager[Callable[[], None]]:
    """Hold a results folder for one command; gives a function that lets this command's other processes in.

    Raises UsageError when another command still works there after a few seconds.
    """
    busy = f"Another process is evaluating into {folder}. Wait for it, or choose another --output."
    return locked(folder / LOCK_FILE, busy, patience_s=PATIENCE_S)


def hold_together(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder together with the main process, which has let the others in."""
    return locked_together(folder / LOCK_FILE)
