"""Ranks: who does which images, and the sums over all. One process is the same path with one rank.

Images are dealt like cards (image i goes to rank i modulo the number of ranks): every group is spread evenly, nothing
is padded, and any number of images fits any number of ranks.
"""

from typing import Any

import torch
import torch.distributed
from accelerate import PartialState
from accelerate.utils import gather_object


class Ranks:
    """This process among its peers, as `accelerate launch` (or nobody) started it."""

    def __init__(self, cpu: bool = False):
        self.state = PartialState(cpu=cpu or not torch.cuda.is_available())

    @property
    def rank(self) -> int:
        return self.state.process_index

    @property
    def size(self) -> int:
        return self.state.num_processes

    @property
    def main(self) -> bool:
        return self.state.is_main_process

    @property
    def device(self) -> torch.device:
        return torch.device(self.state.device or "cpu")

    def share(self, count: int) -> list[int]:
        """The numbers below `count` that are this rank's."""
        return list(range(self.rank, count, self.size))

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, on each; in place."""
        if self.size > 1:
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
        return gather_object(items) if self.size > 1 else items

    def wait(self) -> None:
        self.state.wait_for_everyone()
