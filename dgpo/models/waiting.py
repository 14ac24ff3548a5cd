"""Parts of a model that wait in host memory and are on the device only while they are used."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def brought(parts: Iterable[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """These parts, whose weights lie on the CPU, are on `device` for as long as this lasts.

    They are frozen, so nothing is copied back: afterwards each weight is the tensor in host memory again.
    """
    waiting = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    kept = [(tensor, tensor.data) for tensor in waiting]
    try:
        for tensor, data in kept:
            tensor.data = data.to(device)
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data
