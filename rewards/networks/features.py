"""Image features, each computed once: prepared in threads ahead of the network, and kept for who asks again.

Several rewards of one process share a tower, and one image may stand under several prompts; whoever asks second gets
what the first one paid for. Two ways of preparing often make the same pixels of an image: then it is encoded once too.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import RLock
from typing import TypeAlias

import torch
from PIL.Image import Image

BATCH = 32
MEMORY_BYTES = 256 * 2**20
_REMEMBERED_IMAGES = 2**16
_THREADS = min(4, os.cpu_count() or 1)

Key: TypeAlias = bytes


class Memory:
    """Features by the pixels they were made of; the least recently used go when they exceed `size` bytes.

    Those who share a network share one. Threads take turns by its lock.
    """

    def __init__(self, size: int = MEMORY_BYTES) -> None:
        self.size = size
        self.lock = RLock()
        self._rows: OrderedDict[Key, torch.Tensor] = OrderedDict()

    def recall(self, key: Key | None) -> torch.Tensor | None:
        row = self._rows.get(key) if key is not None else None
        if key is not None and row is not None:
            self._rows.move_to_end(key)
        return row

    def keep(self, rows: Mapping[Key, torch.Tensor]) -> None:
        for key, row in rows.items():
            self._rows[key] = row
            self._rows.move_to_end(key)
        size = sum(row.nbytes for row in self._rows.values())
        while self._rows and size > self.size:
            _, oldest = self._rows.popitem(last=False)
            size -= oldest.nbytes

    def forget(self) -> None:
        with self.lock:
            self._rows.clear()


class Features:
    """Features of images by one network and one way of preparing them.

    Args:
        prepare: one image to a float tensor [C, H, W]; runs in threads.
        encode: a batch [B, C, H, W] to features [B, ...]; runs in the caller's thread.
        batch: images a forward pass.
        memory: where features are kept; shared with other ways of preparing for the same `encode`.
    """

    def __init__(
        self,
        prepare: Callable[[Image], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        *,
        batch: int = BATCH,
        memory: Memory | None = None,
    ) -> None:
        self.prepare, self.encode, self.batch = prepare, encode, batch
        self.memory = memory or Memory()
        self._pixels: OrderedDict[Key, Key] = OrderedDict()  # an image's content to that of its prepared pixels

    def of(self, images: Sequence[Image]) -> torch.Tensor:
        """Features [B, ...], one row per image; an image that is given twice is encoded once.

        An image that cannot be prepared raises; what was encoded before it is kept.
        """
        keys = [content_key(image) for image in images]
        known: dict[Key, torch.Tensor] = {}
        with self.memory.lock:
            absent: dict[Key, Image] = {}
            for key, image in zip(keys, images, strict=True):
                row = self.memory.recall(self._pixels.get(key))
                if row is None:
                    absent[key] = image
                else:
                    known[key] = row
            for chunk in _prepare_ahead(self.prepare, absent, self.batch):
                known.update(self._encode(chunk))
        return torch.stack([known[key] for key in keys])

    def forget(self) -> None:
        self.memory.forget()

    def _encode(self, chunk: "list[_Prepared]") -> dict[Key, torch.Tensor]:
        """Features by image of one batch; pixels that are known, from whatever way of preparing, are not encoded."""
        rows = {one.pixels_key: self.memory.recall(one.pixels_key) for one in chunk}
        new = {one.pixels_key: one.pixels for one in chunk if rows[one.pixels_key] is None}
        if new:
            rows.update(zip(new, self.encode(torch.stack(list(new.values()))), strict=True))
        known = {key: row for key, row in rows.items() if row is not None}
        self.memory.keep(known)
        self._pixels.update((one.key, one.pixels_key) for one in chunk)
        while len(self._pixels) > _REMEMBERED_IMAGES:
            self._pixels.popitem(last=False)
        return {one.key: known[one.pixels_key] for one in chunk}


class _Prepared:
    """An image ready for the network, with the names of its content before and after."""

    def __init__(self, key: Key, pixels: torch.Tensor) -> None:
        self.key, self.pixels = key, pixels
        digest = hashlib.blake2b(f"{tuple(pixels.shape)} {pixels.dtype}".encode(), digest_size=16)
        digest.update(pixels.contiguous().numpy().data)
        self.pixels_key = digest.digest()


def content_key(image: Image) -> Key:
    """Equal for images that no way of preparing can tell apart."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    if image.mode in ("P", "PA"):
        digest.update(repr((image.palette and image.palette.tobytes(), image.info.get("transparency"))).encode())
    return digest.digest()


def _prepare_ahead(
    prepare: Callable[[Image], torch.Tensor], images: Mapping[Key, Image], batch: int
) -> Iterator[list[_Prepared]]:
    """Batches of prepared images; while one is being encoded by the caller, the next is prepared."""
    keys = list(images)
    chunks = [keys[start : start + batch] for start in range(0, len(keys), batch)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="prepare") as threads:

        def begin(chunk: list[Key]) -> list[Future[_Prepared]]:
            return [threads.submit(lambda key: _Prepared(key, prepare(images[key])), key) for key in chunk]

        pending = begin(chunks[0]) if chunks else []
        for place in range(len(chunks)):
            prepared = [future.result() for future in pending]
            pending = begin(chunks[place + 1]) if place + 1 < len(chunks) else []
            yield prepared
