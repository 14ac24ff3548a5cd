"""Where one image is stored, and how its bytes are read: a file of its own, a member of a tar, a row of a table.

All of it is a value that can be pickled, so that the images which one process has listed are read by another. Nothing
here needs torch or a reward.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from errno import EIO, ENOENT
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from benchmarks.harness.places import folder_of, full_name, is_url, join, read_file
from rewards.images import IMAGE_BYTES

# The bytes of one image, or an OSError whose `strerror` is the reason why there are none; in any thread.
Read = Callable[[], bytes]


class Holder(Protocol):
    """What holds images. Equal holders are the same one."""

    def read(self, places: Sequence[Any]) -> Iterator[Read]:
        """One answer for each place, in order; to be run through by one thread, from the beginning to the end."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """One image: its name in scores.csv, what holds it, and where in it."""

    name: str
    holder: Holder
    place: Any = None


def read_stored(images: Iterable[Stored]) -> Iterator[Read]:
    """How each image's bytes are had, in order; what holds several in a row is opened once for all of them."""
    for holder, row in groupby(images, key=lambda one: one.holder):
        yield from holder.read([one.place for one in row])


@dataclass(frozen=True, slots=True)
class Files:
    """Images that are files of their own: a place is the file's name."""

    def read(self, places: Sequence[str]) -> Iterator[Read]:
        return (partial(read_file, name, IMAGE_BYTES) for name in places)


@dataclass(frozen=True, slots=True)
class Lost:
    """An image, or a whole file of images, of which it is known beforehand that it cannot be read, and why."""

    reason: str
    code: int = EIO

    def read(self, places: Sequence[None]) -> Iterator[Read]:
        return (self._fail for _ in places)

    def _fail(self) -> bytes:
        raise OSError(self.code, self.reason)


def file_image(name: str) -> Stored:
    return Stored(name, Files(), name)


def lost_image(name: str, error: Exception | str) -> Stored:
    """What cannot be read, for a reason in words or that of the operating system."""
    code = error.errno or EIO if isinstance(error, OSError) else EIO
    code = ENOENT if isinstance(error, FileNotFoundError) else code  # far file systems leave the number out
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Stored(name, Lost(words or os.strerror(code), code))


def image_beside(table: str, name: str) -> Stored:
    """An image that a list or a table names, relative to itself.

    One on this disk reaches no server by naming an address, and one from elsewhere reads nothing of this disk.
    """
    if is_url(name) and name.partition("://")[0] != table.partition("://")[0]:
        return Stored(name, Lost(f"{table} names an address of another kind than its own, which is not followed"))
    return file_image(full_name(join(folder_of(table), name)))


@dataclass(frozen=True, slots=True)
class Told:
    """An image with what its list, table or archive tells of it: empty and None where that is nothing.

    `prompt_id` tells prompts of the same text apart.
    """

    image: Stored
    prompt: str = ""
    seed: int | None = None
    prompt_id: str = ""
    where: str = ""
