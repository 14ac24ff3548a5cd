"""Frozen weights that are on the device only while they are used, and in host memory otherwise.

Nothing is copied back: what leaves the device is dropped there, and its tensor is the one in host memory again.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

Resting = tuple[torch.Tensor, torch.Tensor]
"""A weight, and its numbers in host memory."""


def weights_of(parts: Iterable[torch.nn.Module]) -> list[torch.Tensor]:
    return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]


@contextmanager
def brought(parts: Iterable[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """These parts, which lie in host memory, are on `device` for as long as this lasts."""
    kept = [(tensor, tensor.data) for tensor in weights_of(parts)]
    try:
        for tensor, data in kept:
            tensor.data = data.to(device)
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


@contextmanager
def away(weights: Sequence[Resting], device: torch.device) -> Iterator[None]:
    """These weights, which are on `device`, are in host memory for as long as this lasts."""
    for tensor, data in weights:
        tensor.data = data
    try:
        yield
    finally:
        for tensor, data in weights:
            tensor.data = data.to(device)
