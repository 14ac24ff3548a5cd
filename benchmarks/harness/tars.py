"""Images in a tar as WebDataset has them: KEY.png (.jpg, .jpeg, .webp) with its prompt in KEY.txt or KEY.json.

A member's key is its name up to the first dot behind the last slash. Listing reads headers and prompts only, and notes
where each image lies, so that any of them can be read later by itself. Nothing is unpacked to a disk, and nothing but
regular members is looked at. Python's reader of tars takes a damaged header for the end of the archive, and an archive
that was cut off between two members for a whole one, so its end is looked at here once more.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from errno import EIO
from typing import Any, BinaryIO, cast

from benchmarks.harness.metadata import parse_seed
from benchmarks.harness.places import open_file
from benchmarks.harness.stored import Read, Stored, Told, lost_image
from rewards.images import IMAGE_BYTES
from rewards.tables import settle

ENDINGS = ("png", "jpg", "jpeg", "webp")
TEXT_BYTES = 2**20
# What follows the two blocks of zeros at the end is padding; writers pad to some kilobytes, seldom to a megabyte.
PADDING = 2**20
DAMAGE = (tarfile.TarError, OSError, ValueError, ArithmeticError, LookupError, EOFError, TypeError, MemoryError)


@dataclass(frozen=True, slots=True)
class Tar:
    """A tar file; a place in it is where an image begins, and how many bytes it has."""

    name: str

    def read(self, places: Sequence[tuple[int, int]]) -> Iterator[Read]:
        try:
            with open_file(self.name) as file:
                for offset, size in places:
                    yield _cut_out(file, offset, size)
        except OSError as error:
            yield from (_failing(error) for _ in places)


def list_tar(name: str) -> Iterator[Told]:
    """The images of a tar with their prompts, in its order; what cannot be read is told with the reason."""
    samples: dict[str, _Sample] = {}
    try:
        with open_file(name) as file:
            problem = _list_members(file, samples)
    except OSError as error:
        yield Told(lost_image(name, error))
        return
    found = 0
    if problem:
        _miss_prompts(list(samples.values()))
    for key, sample in samples.items():
        for told in sample.images(name, key):
            yield told
            found += 1
    if problem or not found:
        endings = ", ".join(ENDINGS)
        yield Told(lost_image(name, problem or f"the tar holds no image (KEY and an ending out of {endings})"))


@dataclass
class _Sample:
    """The members of one key."""

    places: dict[str, tuple[int, int] | str] = field(default_factory=dict)
    """By the member's name: where the image lies, or why it is not read."""
    text: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    names: Counter[str] = field(default_factory=Counter)

    @property
    def prompt(self) -> str | None:
        prompt = self.record.get("prompt") if self.text is None else self.text
        return None if prompt is None else settle(prompt)

    def images(self, shard: str, key: str) -> Iterator[Told]:
        """What the sample tells; nothing, where it is of something else than images and prompts."""
        if self.places or self.prompt is not None or self.problem:
            seed = parse_seed(self.record.get("seed"), f"{shard}#{key}.json")
            for member, place in self.places.items() or [(key, self.problem or "the tar has its prompt, and no image")]:
                name = f"{shard}#{member}"
                if self.names[member] > 1:
                    place = f"the tar has {self.names[member]} members of this name"
                problem = place if isinstance(place, str) else self.problem
                image = lost_image(name, problem) if problem else Stored(name, Tar(shard), place)
                yield Told(image, self.prompt or "", seed, str(self.record.get("id", "")), name)


def _miss_prompts(samples: Sequence[_Sample]) -> None:
    """Of a tar that is not whole: where images have prompts, those that lack one have lost it, and so may the last."""
    prompted = any(sample.prompt is not None for sample in samples)
    for sample in samples if prompted else samples[-1:]:
        if sample.prompt is None:
            sample.problem = sample.problem or "its prompt is not in what is left of the tar"


def _list_members(file: BinaryIO, samples: dict[str, _Sample]) -> str:
    """Fills in the samples; returns what is wrong with the archive as a whole, if anything is."""
    offset = 0
    try:
        with tarfile.TarFile(fileobj=file) as tar:
            while (member := tar.next()) is not None:
                if tar.offset <= offset:
                    return f"the tar is damaged at byte {offset}, and what follows is not known"
                offset = tar.offset
                cast(Any, tar).members.clear()  # or all headers would stay in memory
                if member.isreg():
                    _take(file, member, samples)
            return _end(file, tar.offset)
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return f"the tar is damaged behind byte {offset} ({reason}), and what follows is not known"


def _end(file: BinaryIO, offset: int) -> str:
    """What is wrong with the place where the archive ends."""
    file.seek(offset)
    block, rest = file.read(tarfile.BLOCKSIZE), file.read(PADDING)
    if len(block) < tarfile.BLOCKSIZE:
        return f"the tar ends at byte {offset} without its end mark: it was cut off"
    if block.strip(b"\0"):
        return f"the tar has a damaged header at byte {offset}, and what follows is not known"
    if rest.strip(b"\0"):
        return f"the tar goes on behind its end mark at byte {offset}, as two tars in one file do; that is not read"
    return ""


def _take(file: BinaryIO, member: tarfile.TarInfo, samples: dict[str, _Sample]) -> None:
    folder, slash, base = member.name.rpartition("/")
    stem, _, ending = base.partition(".")
    key, ending = folder + slash + stem, ending.lower()
    if stem.startswith("__") and stem.endswith("__") and not slash:
        return  # WebDataset's own notes on the shard
    if ending in ENDINGS:
        sample = samples.setdefault(key, _Sample())
        sample.names[member.name] += 1
        sample.places[member.name] = _place(member)
    elif ending in ("txt", "json"):
        sample = samples.setdefault(key, _Sample())
        try:
            text = _text(file, member)
            if ending == "txt":
                sample.text = text
            else:
                record = json.loads(text)
                if not isinstance(record, dict) or not isinstance(record.get("prompt", ""), str):
                    raise ValueError('it needs an object with a text under "prompt"')
                sample.record = record
        except (ValueError, RecursionError) as error:
            sample.problem = f"its prompt in {member.name} cannot be read ({str(error)[:200]})"


def _place(member: tarfile.TarInfo) -> tuple[int, int] | str:
    if member.issparse():
        return "it is stored with holes (as a sparse file), which is not read"
    if member.size > IMAGE_BYTES:
        return f"it has {member.size} bytes, and at most {IMAGE_BYTES} are read"
    return member.offset_data, member.size


def _text(file: BinaryIO, member: tarfile.TarInfo) -> str:
    if member.size > TEXT_BYTES or member.issparse():
        raise ValueError(f"it has {member.size} bytes, and at most {TEXT_BYTES} are read")
    file.seek(member.offset_data)
    data = file.read(member.size)
    if len(data) < member.size:
        raise ValueError("the tar ends before it does")
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text


def _cut_out(file: BinaryIO, offset: int, size: int) -> Read:
    try:
        file.seek(offset)
        data = file.read(size)
    except OSError as error:
        return _failing(error)
    if len(data) < size:
        return _failing(OSError(EIO, f"the tar ends {size - len(data)} bytes before the image does"))
    return lambda: data


def _failing(error: OSError) -> Read:
    def fail() -> bytes:
        raise OSError(error.errno or EIO, error.strerror or str(error))

    return fail
