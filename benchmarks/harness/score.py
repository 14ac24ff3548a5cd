"""Scores of images that are already there: each image under its prompts by every reward, a row a score.

Files are read and decoded in threads ahead of the pool that scores them; a file that stands under several prompts is
read once and goes to one worker with all of them, which encodes it once. Whatever cannot be scored is a row with the
reason. With a draft, finished rows are on disk at once, and the same work goes on where a killed one stood.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.harness.draft import Key
from benchmarks.harness.listing import Entry, group_by_image
from benchmarks.harness.pipeline import score_ahead
from benchmarks.harness.requirements import check_prompts
from benchmarks.harness.rows import Subject
from benchmarks.harness.store import Row
from benchmarks.harness.stored import Read, read_stored
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.images import ImageFile, image_from
from rewards.pool import ScoringPool
from rewards.registry import card_of

# Files, images under their prompts, and pixels (unless one image alone has more) that a worker is handed at a time.
FILES, PAIRS, PIXELS = 16, 128, 2**26
READERS = min(8, os.cpu_count() or 1)
READ_AHEAD = 2 * READERS
SHOWN = 5


def check_entries(entries: Sequence[Entry], pool: ScoringPool) -> None:
    """All rewards of an open pool can be built, and those that read prompts have one for each image.

    Raises:
        SetupError: a line for each reward that cannot be built here.
        UsageError: there is no prompt to read, or one that a reward cannot judge.
    """
    pool.wait_until_built()
    reading = [spec.key for spec in pool.specs if card_of(spec).reads_prompt]
    without = [entry for entry in entries if entry.prompt is None and not entry.lost]
    if reading and without:
        names = [entry.image.name for entry in without[:SHOWN]] + ["..."] * (len(without) > SHOWN)
        raise UsageError(
            f"{', '.join(reading)} cannot do without prompts, and {len(without)} of "
            f"{len(entries)} images have none ({', '.join(names)}). Give one text for all with --prompt TEXT; or the "
            "prompts of images named PROMPTID_SEED.png with --prompts FILE; or put a metadata.csv with the columns "
            "file_name,prompt beside the images."
        )
    prompts = tuple(dict.fromkeys(entry.prompt for entry in entries if entry.prompt is not None))
    if prompts and reading:
        check_prompts(Suite("these images", prompts, "metadata"), pool, reading)


def score_images(
    entries: Sequence[Entry], pool: ScoringPool, known: Mapping[Key, Row] | None = None
) -> Iterator[list[Row]]:
    """The rows of every entry by every reward, batch after batch: files in the order in which they first appear.

    Args:
        pool: its rewards are in the order of an entry's rows.
        known: rows from before, taken over where the file has not changed.
    """
    keys = [spec.key for spec in pool.specs]
    known = known or {}
    waiting: deque[list[Subject]] = deque()

    def begin(files: Iterable[_Picture]) -> list[Subject]:
        waiting.append([_subject(entry, file.found, keys, known) for file in files for entry in file.entries])
        return waiting[-1]

    with ThreadPoolExecutor(READERS, thread_name_prefix="reading") as readers:
        batches = _cut(_read_ahead(readers, _divide(group_by_image(entries))))
        for new in score_ahead(map(begin, batches), pool):
            yield [
                row
                for subject, rows in zip(waiting.popleft(), new, strict=True)
                for row in _whole(subject, rows, keys, known)
            ]


@dataclass(frozen=True)
class _Picture:
    """One image, read, with the entries in which it stands."""

    entries: Sequence[Entry]
    found: ImageFile

    @property
    def pixels(self) -> int:
        return 0 if self.found.image is None else self.found.image.width * self.found.image.height


def _subject(entry: Entry, found: ImageFile, keys: Sequence[str], known: Mapping[Key, Row]) -> Subject:
    image, prompt_id = entry.image.name, "" if entry.prompt is None else entry.prompt.id
    rows = {key: known.get((image, prompt_id, entry.seed, key)) for key in keys}
    wanted = [key for key, row in rows.items() if row is None or not row.settled or row.image_sha != found.sha256]
    return Subject(entry.run, entry.prompt, entry.seed, image, found, tuple(wanted))


def _whole(subject: Subject, new: Sequence[Row], keys: Sequence[str], known: Mapping[Key, Row]) -> list[Row]:
    """A row for each key: the new ones, and those that are known."""
    made = {row.reward: row for row in new}
    of_image = subject.name, subject.prompt_id, subject.seed
    return [made[key] if key in made else known[*of_image, key] for key in keys]


def _divide(images: Sequence[list[Entry]]) -> list[list[Entry]]:
    """The entries of each image, at most so many that a worker may have them all at a time."""
    return [same[start : start + PAIRS] for same in images for start in range(0, len(same), PAIRS)]


def _read_ahead(readers: ThreadPoolExecutor, parts: Sequence[list[Entry]]) -> Iterator[_Picture]:
    """Read images, in order; while one is with the caller, the next ones are being read."""
    reading: deque[Future[_Picture]] = deque()
    for part, read in zip(parts, read_stored(entries[0].image for entries in parts), strict=True):
        reading.append(readers.submit(_decode, part, read))
        if len(reading) > READ_AHEAD:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


def _cut(files: Iterable[_Picture]) -> Iterator[list[_Picture]]:
    """Batches of files, none larger than a worker is handed at a time."""
    batch: list[_Picture] = []
    for file in files:
        grown = [*batch, file]
        pairs, pixels = sum(len(one.entries) for one in grown), sum(one.pixels for one in grown)
        if batch and (len(grown) > FILES or pairs > PAIRS or pixels > PIXELS):
            yield batch
            grown = [file]
        batch = grown
    if batch:
        yield batch


def _decode(entries: Sequence[Entry], read: Read) -> _Picture:
    return _Picture(entries, image_from(read, entries[0].image.name))
