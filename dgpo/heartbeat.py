"""A machine that is gone without a word: its ranks are missed, and the job ends instead of waiting for them.

A process that dies closes its connections, which its peers see at once. One whose machine loses power or network, or
that is stopped, closes nothing: the others would wait in a collective operation for days.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from dgpo.processes import PeerLost, Place, is_open

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT_S = 10.0
# As long as nobody answers, several times what a busy file system or a collection of garbage takes.
LOST_S = 300.0
LEFT = "left"


class Silence:
    """For how long each of the other ranks has said nothing new, in seconds."""

    def __init__(self, ranks: list[int]) -> None:
        self.last = dict.fromkeys(ranks, "")
        self.seconds = dict.fromkeys(ranks, 0.0)

    def hear(self, beats: dict[int, str], passed_s: float) -> None:
        """Take in what the ranks said since `passed_s` seconds ago; one that has left on purpose is not missed."""
        for rank, before in self.last.items():
            beat = beats.get(rank, before)
            quiet = beat == before and beat != LEFT
            self.seconds[rank] = self.seconds[rank] + passed_s if quiet else 0.0
            self.last[rank] = beat

    @property
    def lost(self) -> list[int]:
        return [rank for rank, seconds in self.seconds.items() if seconds > LOST_S]


class Heartbeat:
    """Tells the other ranks every few seconds that this one lives, and ends this process when one of them is gone.

    It ends at once, with the exit code of one that has lost another: whoever waits in a collective operation hears no
    exception.
    """

    def __init__(self, store: "Store", place: Place, on_note: Callable[[str], None]) -> None:
        self.store, self.place, self.on_note = store, place, on_note
        self._stopped = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def stop(self) -> None:
        """This rank has done its part: it misses nobody any more, and whoever has more to do does not miss it."""
        self._stopped.set()
        self._say(LEFT)

    def _beat(self) -> None:
        silence = Silence([other for other in range(self.place.size) if other != self.place.rank])
        for count in itertools.count(1):
            began = time.monotonic()
            self._say(str(count))
            beats = self._hear(list(silence.last))
            # Time in which this process was stopped itself (a debugger, a laptop asleep) is nobody's silence.
            silence.hear(beats, time.monotonic() - began + BEAT_S)
            if silence.lost and not self._stopped.is_set():
                self._end(", ".join(map(str, silence.lost)))
            if self._stopped.wait(BEAT_S):
                return

    def _end(self, lost: str) -> None:
        self.on_note(
            f"nothing was heard of process {lost} (RANK) for {LOST_S:.0f} s: its machine or the network is gone. This "
            "one ends; what is finished is kept, and the same command goes on from there"
        )
        os._exit(PeerLost.exit_code)

    def _say(self, beat: str) -> None:
        from torch.distributed import DistError

        if is_open(self.place):
            with suppress(DistError):
                self.store.set(_name(self.place.rank), beat)

    def _hear(self, others: list[int]) -> dict[int, str]:
        """What each has said last; nothing where whoever holds the store cannot be reached."""
        from torch.distributed import DistError

        if not is_open(self.place):
            return {}
        try:
            known = [other for other in others if self.store.check([_name(other)])]
            return {other: self.store.get(_name(other)).decode() for other in known}
        except DistError:
            return {}


def _name(rank: int) -> str:
    return f"beat/{rank}"
