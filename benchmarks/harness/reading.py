"""Images read in batches: which go to a worker together is known before they are read, but for those of many pixels.

The scores of some networks depend in their last bits on what stands beside an image in its batch. So whoever cuts the
same list into the same loads, in one process or on many machines, has the same batches and the same scores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from benchmarks.harness.listing import Entry, group_by_image
from benchmarks.harness.stored import Read, read_stored
from rewards.images import ImageFile, image_from

# Files, images under their prompts, and pixels (unless one image alone has more) that a worker is handed at a time.
FILES, PAIRS, PIXELS = 16, 128, 2**26
READERS = min(8, os.cpu_count() or 1)
READ_AHEAD = 2 * READERS

# Images that are read and scored together, each as the entries in which it stands.
Load = list[list[Entry]]


@dataclass(frozen=True)
class Picture:
    """One image, read, with the entries in which it stands."""

    entries: Sequence[Entry]
    found: ImageFile

    @property
    def pixels(self) -> int:
        return 0 if self.found.image is None else self.found.image.width * self.found.image.height


def divide(entries: Sequence[Entry]) -> list[Load]:
    """The images in their order, in loads of at most `FILES` images under `PAIRS` prompts in all."""
    loads: list[Load] = []
    pairs = 0
    for same in group_by_image(entries):
        for start in range(0, len(same), PAIRS):
            part = same[start : start + PAIRS]
            pairs += len(part)
            if not loads or len(loads[-1]) == FILES or pairs > PAIRS:
                loads.append([])
                pairs = len(part)
            loads[-1].append(part)
    return loads


def read_batches(loads: Sequence[Load]) -> Iterator[list[Picture]]:
    """The images of each load, read: one batch, or several where they have more than `PIXELS`."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="reading") as readers:
        pictures = _read_ahead(readers, [part for load in loads for part in load])
        for load in loads:
            yield from _cut(islice(pictures, len(load)))


def _read_ahead(readers: ThreadPoolExecutor, parts: Sequence[list[Entry]]) -> Iterator[Picture]:
    """Read images, in order; while one is with the caller, the next ones are being read."""
    reading: deque[Future[Picture]] = deque()
    for part, read in zip(parts, read_stored(entries[0].image for entries in parts), strict=True):
        reading.append(readers.submit(_decode, part, read))
        if len(reading) > READ_AHEAD:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


def _cut(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    batch: list[Picture] = []
    for picture in pictures:
        if batch and sum(one.pixels for one in batch) + picture.pixels > PIXELS:
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def _decode(entries: Sequence[Entry], read: Read) -> Picture:
    return Picture(entries, image_from(read, entries[0].image.name))
