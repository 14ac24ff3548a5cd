"""Which of several processes this one is, and the place where they meet.

torchrun and `dgpo --num-processes` tell every process by the same variables. Containers and batch systems set some of
them too, and a shell may keep those of a job that is gone; so a set that is not whole is refused, and a meeting place
where nobody answers is left after a while.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rewards.errors import SetupError

if TYPE_CHECKING:
    from torch.distributed import Store

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOCAL_SIZE = "LOCAL_WORLD_SIZE"
MEND = (
    "Unset WORLD_SIZE for one process (or several on this machine, by --num-processes), or start dgpo by torchrun,"
    " which sets all of them."
)
# torchrun has gathered its agents before, so that processes come within the seconds that imports take on slow disks.
PATIENCE_S = 300.0
QUIET_S = 10.0
POLL_S = 0.2

log = logging.getLogger(__name__)


class PeerLost(SetupError):
    """Another process of this command is gone. It has said why if it could, so that only a launcher sees this code."""

    exit_code = 75


@dataclass(frozen=True)
class Place:
    """One process among those of its command: its number over all machines and on its own, and where all meet."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1
    address: str = ""
    port: int = 0


def find_place(variables: Mapping[str, str] | None = None) -> Place:
    """The place that the environment gives to this process; a single one where WORLD_SIZE is 1 or not set.

    Raises:
        SetupError: the variables speak of several processes, and some are missing or impossible.
    """
    variables = os.environ if variables is None else variables
    given = {name: value for name in (*VARIABLES, LOCAL_SIZE) if (value := variables.get(name))}
    size = _whole_number(given, "WORLD_SIZE", 1, 2**31) if "WORLD_SIZE" in given else 1
    if size == 1:
        return Place()
    missing = [name for name in VARIABLES if name not in given]
    if missing:
        raise SetupError(
            f"WORLD_SIZE={size} in the environment says that this is one of {size} processes, but it lacks"
            f" {' and '.join(missing)}. {MEND}"
        )
    return Place(
        rank=_whole_number(given, "RANK", 0, size),
        local_rank=_whole_number(given, "LOCAL_RANK", 0, size),
        size=size,
        local_size=_whole_number(given, LOCAL_SIZE, 1, size + 1) if LOCAL_SIZE in given else size,
        address=given["MASTER_ADDR"],
        port=_whole_number(given, "MASTER_PORT", 1, 2**16),
    )


def take_place() -> Place:
    """`find_place`; a single process forgets the variables, lest something below it believes them."""
    place = find_place()
    if place.size == 1:
        for name in (*VARIABLES, LOCAL_SIZE):
            os.environ.pop(name, None)
    return place


def meet(place: Place, on_note: Callable[[str], None] = log.warning) -> Store:
    """Where the processes leave words for one another, once all have come.

    Raises:
        SetupError: nobody answers there, or some have not come, after a time that is announced.
    """
    from torch.distributed import PrefixStore

    wait = _Wait(place, on_note)
    hosts = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not hosts:
        wait.until(lambda: is_open(place), lambda: "nobody answers there")
    tries = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"dgpo/{tries}", _open(place, hosts, wait))
    names = [f"here/{rank}" for rank in range(place.size)]
    store.set(names[place.rank], "")
    wait.until(lambda: store.check(names), lambda: _describe_absent([store.check([name]) for name in names]))
    return store


class _Wait:
    """Patience, which is announced when it is needed and has an end."""

    def __init__(self, place: Place, on_note: Callable[[str], None]) -> None:
        self.place, self.on_note = place, on_note
        self.began = time.monotonic()
        self.announced = False

    @property
    def left(self) -> float:
        return self.began + PATIENCE_S - time.monotonic()

    def until(self, done: Callable[[], bool], problem: Callable[[], str]) -> None:
        while not done():
            if self.left < 0:
                self.end(problem())
            if not self.announced and time.monotonic() > self.began + QUIET_S:
                self.announced = True
                self.on_note(f"waiting for {self._where}, for {PATIENCE_S:.0f} s at most")
            time.sleep(POLL_S)

    def end(self, problem: str) -> None:
        raise SetupError(
            f"The processes of this command did not meet: after {PATIENCE_S:.0f} s at {self._where}, {problem}. {MEND}"
        ) from None

    @property
    def _where(self) -> str:
        place = self.place
        return (
            f"{place.size} processes to meet at {place.address}:{place.port} (so say WORLD_SIZE, MASTER_ADDR and"
            f" MASTER_PORT; RANK={place.rank})"
        )


def _open(place: Place, hosts: bool, wait: _Wait) -> Store:
    """The store at the meeting place. Opened in a thread: an answerer that is no such store would hold us for ever."""
    from torch.distributed import DistError, TCPStore

    opened: Future[Store] = Future()

    def attempt() -> None:
        try:
            opened.set_result(
                TCPStore(
                    place.address,
                    place.port,
                    is_master=hosts,
                    wait_for_workers=False,
                    timeout=timedelta(seconds=max(wait.left, 1)),
                )
            )
        except DistError as error:
            opened.set_exception(error)

    threading.Thread(target=attempt, daemon=True).start()
    wait.until(opened.done, lambda: "somebody answers who knows nothing of it")
    try:
        return opened.result()
    except DistError as error:
        wait.end(f"{'the place cannot be opened' if hosts else 'it failed'}: {str(error).splitlines()[0]}")
        raise


def is_open(place: Place) -> bool:
    """Asked before torch does, which reports every vain attempt with a page of its own stack."""
    try:
        with socket.create_connection((place.address, place.port), timeout=2.0):
            return True
    except OSError:
        return False


def _describe_absent(here: list[bool]) -> str:
    absent = [str(rank) for rank, came in enumerate(here) if not came]
    return f"number {', '.join(absent)} had not come"


def _whole_number(variables: Mapping[str, str], name: str, low: int, end: int) -> int:
    text = variables[name]
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not low <= number < end:
        raise SetupError(f'{name} is "{text}" in the environment, and should be from {low} to {end - 1}. {MEND}')
    return number
