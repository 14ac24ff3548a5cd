"""The processes of one `dgpo eval`, as `--num-processes` or torchrun has started them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cli.screen import say
from dgpo.processes import PeerLost, Place, meet, take_place

POLL_S = 0.2


class Peers:
    """Numbers dealt and words left where the processes meet; see `benchmarks.harness.shares.Peers`.

    Nothing is sent between processes but these: no collective operation waits here with a deadline, and a process may
    take hours for its blocks while another is done.
    """

    def __init__(self, place: Place) -> None:
        self.rank, self.size = place.rank, place.size
        self._store = meet(place, say)

    def take(self) -> int:
        return self._ask(lambda: self._store.add("taken", 1)) - 1

    def count(self, finished: int) -> int:
        return self._ask(lambda: self._store.add("finished", finished))

    def tell(self, what: str, words: str) -> None:
        self._ask(lambda: self._store.set(what, words))

    def hear(self, what: str, meanwhile: Callable[[], object]) -> str:
        while not self._ask(lambda: self._store.check([what])):
            meanwhile()
            time.sleep(POLL_S)
        return self._ask(lambda: self._store.get(what)).decode()

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
    return Peers(place)
