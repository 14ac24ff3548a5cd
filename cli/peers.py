"""The processes of one `dgpo eval`, as `--num-processes`, torchrun or `accelerate launch` has started them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

from rewards.errors import SetupError

POLL_S = 0.2


class MainGone(SetupError):
    """Nobody answers where the processes meet: the main one has ended, and has said why if it could."""


class Peers:
    """Numbers dealt and words left at MASTER_ADDR; see `benchmarks.shares.Peers`.

    Nothing is sent between processes but these: no collective operation waits here with a deadline, and a process may
    take hours for its blocks while another is done.
    """

    def __init__(self) -> None:
        import torch.distributed

        store, self.rank, self.size = next(iter(torch.distributed.rendezvous("env://")))
        self._store: Any = store

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
            _lament(error)


def join_peers() -> Peers | None:
    """The others of this command, once all have come; None for a single process. This process's GPU is chosen."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return Peers()


def _lament(error: Exception) -> NoReturn:
    raise MainGone(f"The main process cannot be reached any more ({error}); what is finished is kept.") from None
