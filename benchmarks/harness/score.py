"""Scores of images that are already there: each image under its prompts by every reward, a row a score.

Files are read and decoded in threads ahead of the pool that scores them (`reading`); a file that stands under several
prompts is read once and goes to one worker with all of them, which encodes it once. Whatever cannot be scored is a row
with the reason. With a draft, finished rows are on disk at once, and the same work goes on where a killed one stood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness.draft import Key
from benchmarks.harness.listing import Entry
from benchmarks.harness.pipeline import score_ahead
from benchmarks.harness.reading import Picture, divide, read_batches
from benchmarks.harness.requirements import Judges, check_prompts
from benchmarks.harness.rows import Subject
from benchmarks.harness.store import Row
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.images import ImageFile
from rewards.pool import ScoringPool
from rewards.registry import card_of

SHOWN = 5


def check_entries(entries: Sequence[Entry], pool: Judges) -> None:
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

    def begin(pictures: Sequence[Picture]) -> list[Subject]:
        waiting.append(subjects_of(pictures, keys, known))
        return waiting[-1]

    for new in score_ahead(map(begin, read_batches(divide(entries))), pool):
        yield whole_rows(waiting.popleft(), new, keys, known)


def subjects_of(pictures: Sequence[Picture], keys: Sequence[str], known: Mapping[Key, Row]) -> list[Subject]:
    """Each image under each of its prompts, with the rewards by which it has no settled row."""
    return [_subject(entry, picture.found, keys, known) for picture in pictures for entry in picture.entries]


def whole_rows(
    subjects: Sequence[Subject], new: Sequence[Sequence[Row]], keys: Sequence[str], known: Mapping[Key, Row]
) -> list[Row]:
    """A row for each subject and key: the new ones, and those that are known."""
    return [row for subject, rows in zip(subjects, new, strict=True) for row in _whole(subject, rows, keys, known)]


def _subject(entry: Entry, found: ImageFile, keys: Sequence[str], known: Mapping[Key, Row]) -> Subject:
    image, prompt_id = entry.image.name, "" if entry.prompt is None else entry.prompt.id
    rows = {key: known.get((image, prompt_id, entry.seed, key)) for key in keys}
    wanted = [key for key, row in rows.items() if row is None or not row.settled or row.image_sha != found.sha256]
    return Subject(entry.run, entry.prompt, entry.seed, image, found, tuple(wanted))


def _whole(subject: Subject, new: Sequence[Row], keys: Sequence[str], known: Mapping[Key, Row]) -> list[Row]:
    made = {row.reward: row for row in new}
    of_image = subject.name, subject.prompt_id, subject.seed
    return [made[key] if key in made else known[*of_image, key] for key in keys]
