"""Image features, each computed once: prepared in threads ahead of the network, and kept for who asks again.

Several rewards of one process share a tower, and one image may stand under several prompts; whoever asks second gets
what the first one paid for.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import torch
from PIL.Image import Image

BATCH = 32
MEMORY_BYTES = 256 * 2**20
_THREADS = min(4, os.cpu_count() or 1)


class Features:
    """Features of images by one network and one way of preparing them.

    Args:
        prepare: one image to a float tensor [C, H, W]; runs in threads.
        encode: a batch [B, C, H, W] to features [B, ...]; runs in the caller's thread.
        batch: images a forward pass.
        memory: bytes of features kept, the least recently used going first.
    """

    def __init__(
        self,
        prepare: Callable[[Image], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        *,
        batch: int = BATCH,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self.prepare, self.encode, self.batch, self.memory = prepare, encode, batch, memory
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._lock = Lock()

    def of(self, images: Sequence[Image]) -> torch.Tensor:
        """Features [B, ...], one row an image; an image that is given twice is encoded once.

        An image that cannot be prepared raises; what was encoded before it is kept. Threads take turns.
        """
        keys = [content_key(image) for image in images]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
            absent = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
            self._remember(list(known), known)
            for chunk, pixels in _prepare_ahead(self.prepare, absent, self.batch):
                known.update(zip(chunk, self.encode(pixels), strict=True))
                self._remember(chunk, known)
        return torch.stack([known[key] for key in keys])

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()

    def _remember(self, keys: Sequence[bytes], known: dict[bytes, torch.Tensor]) -> None:
        for key in keys:
            self._kept[key] = known[key]
            self._kept.move_to_end(key)
        size = sum(row.nbytes for row in self._kept.values())
        while self._kept and size > self.memory:
            _, oldest = self._kept.popitem(last=False)
            size -= oldest.nbytes


def content_key(image: Image) -> bytes:
    """Equal for images that no way of preparing can tell apart."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    if image.mode in ("P", "PA"):
        digest.update(repr((image.palette and image.palette.tobytes(), image.info.get("transparency"))).encode())
    return digest.digest()


def _prepare_ahead(
    prepare: Callable[[Image], torch.Tensor], images: dict[bytes, Image], batch: int
) -> Iterator[tuple[list[bytes], torch.Tensor]]:
    """Batches of prepared pixels; while one is being encoded by the caller, the next is prepared."""
    keys = list(images)
    chunks = [keys[start : start + batch] for start in range(0, len(keys), batch)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="prepare") as threads:

        def begin(chunk: list[bytes]) -> list[Future[torch.Tensor]]:
            return [threads.submit(prepare, images[key]) for key in chunk]

        pending = begin(chunks[0]) if chunks else []
        for place, chunk in enumerate(chunks):
            pixels = torch.stack([future.result() for future in pending])
            pending = begin(chunks[place + 1]) if place + 1 < len(chunks) else []
            yield chunk, pixels
