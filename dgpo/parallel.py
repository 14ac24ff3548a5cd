"""Ranks: who does which images, and the sums over all. One process is the same path with one rank.

Images are dealt like cards (image i goes to rank i modulo the number of ranks): every group is spread evenly, nothing
is padded, and any number of images fits any number of ranks.
"""

import atexit
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from dgpo.heartbeat import Heartbeat
from dgpo.processes import PeerLost, Place, meet, take_place
from rewards.errors import SetupError

# Ranks wait for the slowest of them: one that saves, or whose share of an evaluation has slow judges, may take hours.
# One that dies is noticed otherwise.
TIMEOUT = timedelta(days=7)

log = logging.getLogger(__name__)


class Ranks:
    """This process among its peers, as `--num-processes`, torchrun (or nobody) started it."""

    def __init__(self, cpu: bool = False, on_note: Callable[[str], None] = log.warning):
        self.place = take_place()
        self.device = torch.device("cpu") if cpu or not torch.cuda.is_available() else _choose_gpu(self.place)
        self.store: torch.distributed.Store | None = None
        """Where ranks leave words for one another outside of collective operations; None for a single one."""
        if self.size > 1 and not torch.distributed.is_initialized():
            self.store = meet(self.place, on_note)
            torch.distributed.init_process_group(
                "gloo" if self.device.type == "cpu" else "nccl",
                store=self.store,
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
                device_id=None if self.device.type == "cpu" else self.device,
            )
            atexit.register(_leave, Heartbeat(self.store, self.place, on_note))

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def size(self) -> int:
        return self.place.size

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> list[int]:
        """The numbers below `count` that are this rank's."""
        return list(range(self.rank, count, self.size))

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, on each; in place."""
        if self.size > 1:
            with _together():
                torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Add up every parameter's gradient over the ranks in one message; no gradient counts as zero."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def gather(self, items: list[Any]) -> list[Any]:
        """All ranks' items, rank by rank, on each."""
        if self.size == 1:
            return items
        gathered: list[Any] = [None] * self.size
        with _together():
            torch.distributed.all_gather_object(gathered, items)
        return [item for of_one in gathered for item in of_one]

    def anyone(self, flag: bool) -> bool:
        """Whether it is so on some rank."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def wait(self) -> None:
        if self.size > 1:
            with _together():
                torch.distributed.barrier()


@contextmanager
def _together() -> Iterator[None]:
    """Where the ranks depend on one another: one that has ended shows here."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise PeerLost(f"Another process of this training cannot be reached any more ({reason}).") from error


def _leave(heartbeat: Heartbeat) -> None:
    """Put the group's threads away while Python still runs: one that is left at its end aborts the process."""
    heartbeat.stop()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _choose_gpu(place: Place) -> torch.device:
    count = torch.cuda.device_count()
    if place.local_size > count or place.local_rank >= count:
        raise SetupError(
            f"{place.local_size} processes on this machine need a GPU each, and there are {count}. Start {count}"
            " (--num-processes), or train on CPUs with CUDA_VISIBLE_DEVICES= in the environment."
        )
    device = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(device)
    return device
