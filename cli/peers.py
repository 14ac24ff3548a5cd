"""The processes of one evaluation: a `dgpo eval` as `--num-processes` or torchrun has started it, or a training."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cli.screen import say
from dgpo.heartbeat import Heartbeat
from dgpo.processes import PeerLost, meet, take_place
from rewards.errors import SetupError

if TYPE_CHECKING:
    from torch.distributed import Store

POLL_S = 0.2
GIVEN_UP = "given-up"


class Peers:
    """Numbers dealt and words left where the processes meet; see `benchmarks.harness.shares.Peers`.

    Nothing is sent between processes but these: no collective operation waits here with a deadline, and a process may
    take hours for its blocks while another is done.
    """

    def __init__(self, rank: int, size: int, store: Store, heartbeat: Heartbeat | None = None) -> None:
        self.rank, self.size = rank, size
        self._store, self._heartbeat = store, heartbeat

    def leave(self) -> None:
        """Be missed by nobody, and miss nobody."""
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def take(self) -> int:
        return self._ask(lambda: self._store.add("taken", 1)) - 1

    def count(self, finished: int) -> int:
        return self._ask(lambda: self._store.add("finished", finished))

    def tell(self, what: str, words: str) -> None:
        self._ask(lambda: self._store.set(what, words))

    def hear(self, what: str, meanwhile: Callable[[], object]) -> str:
        while not self._ask(lambda: self._store.check([what])):
            if self._ask(lambda: self._store.check([GIVEN_UP])):
                raise SetupError(self._ask(lambda: self._store.get(GIVEN_UP)).decode())
            meanwhile()
            time.sleep(POLL_S)
        return self._ask(lambda: self._store.get(what)).decode()

    def give_up(self, reason: str) -> None:
        """Let those who wait for words of this process wait no more."""
        self.tell(GIVEN_UP, reason)

    def _ask(self, question: Callable[[], Any]) -> Any:
        from torch.distributed import DistError

        try:
            return question()
        except DistError as error:
            raise PeerLost(
                f"The main process cannot be reached any more ({error}); what is finished is kept."
            ) from None


def join_peers() -> Peers | None:
    """The others of this command, once all have come; None for a single process. This process's GPU is chosen.

    More processes than GPUs share them.
    """
    place = take_place()
    if place.size == 1:
        return None
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    store = meet(place, say)
    peers = Peers(place.rank, place.size, store, Heartbeat(store, place, say))
    atexit.register(peers.leave)
    return peers
