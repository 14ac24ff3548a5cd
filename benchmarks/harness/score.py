"""Scores of images that are already there: each image under its prompts by every reward, a row a score.

Files are read and decoded in threads ahead of the pool that scores them; a file that stands under several prompts is
read once and goes to one worker with all of them, which encodes it once. Whatever cannot be scored is a row with the
reason. With a draft, finished rows are on disk at once, and the same work goes on where a killed one stood.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.evaluate import check_prompts
from benchmarks.harness.listing import Entry
from benchmarks.harness.record import RECORD_FILE, describe_reward
from benchmarks.harness.shares import LOCK_FILE
from benchmarks.harness.store import COLUMNS, FAILED, MISSING, OK, SCORES_FILE, Row, ScoreStore, format_rows
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.files import check_writable, locked, replace_file
from rewards.images import ImageFile, read_image
from rewards.pool import RewardFacts, Scored, ScoringPool
from rewards.prompt import Prompt
from rewards.registry import card_of
from rewards.score import Score

# Files, images under their prompts, and pixels (unless one image alone has more) that a worker is handed at a time.
FILES, PAIRS, PIXELS = 16, 128, 2**26
READERS = min(8, os.cpu_count() or 1)
READ_AHEAD = 2 * READERS
SHOWN = 5

Key = tuple[str, str, int, str]


def key_of(row: Row) -> Key:
    """What tells one score from another: image, prompt, seed and reward."""
    return row.image, row.prompt_id, row.seed, row.reward


def check_entries(entries: Sequence[Entry], pool: ScoringPool) -> None:
    """All rewards of an open pool can be built, and those that read prompts have one for each image.

    Raises:
        SetupError: a line for each reward that cannot be built here.
        UsageError: there is no prompt to read, or one that a reward cannot judge.
    """
    pool.wait_until_built()
    reading = [spec.key for spec in pool.specs if card_of(spec).reads_prompt]
    without = [entry for entry in entries if entry.prompt is None]
    if reading and without:
        names = [str(entry.path) for entry in without[:SHOWN]] + ["..."] * (len(without) > SHOWN)
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
    waiting: deque[_Batch] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="reading") as readers:
        for files in _cut(_read_ahead(readers, _by_file(entries))):
            waiting.append(_Batch(files, keys, pool, known or {}))
            if len(waiting) > max(pool.workers, 1):
                yield waiting.popleft().rows()
        while waiting:
            yield waiting.popleft().rows()


@dataclass
class Tally:
    """What the rows say so far, reward by reward; `failed` are the images that lack a score."""

    keys: Sequence[str]
    sums: dict[str, float] = field(default_factory=dict)
    scored: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failed: set[tuple[str, str, int]] = field(default_factory=set)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.score is not None:
                self.sums[row.reward] = self.sums.get(row.reward, 0.0) + row.score
                self.scored[row.reward] += 1
            else:
                self.failures[row.reward] += 1
                self.reasons[row.detail] += 1
                self.failed.add((row.image, row.prompt_id, row.seed))

    def mean(self, key: str) -> float | None:
        return self.sums[key] / self.scored[key] if self.scored[key] else None


class Draft:
    """The rows of an unfinished output file, in the folder FILE.draft beside it, until `finish` writes the file."""

    def __init__(self, output: Path, rewards: Mapping[str, RewardFacts]) -> None:
        self.output = Path(os.path.realpath(output))
        self.folder = self.output.with_name(self.output.name + ".draft")
        record = _plain({key: describe_reward(reward) for key, reward in rewards.items()})
        check_output(self.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        busy = f"Another `dgpo score` is writing {self.output}. Wait for it, or choose another --output."
        self._lock.enter_context(locked(self.folder / LOCK_FILE, busy))
        before = _read(self.folder / RECORD_FILE)
        self.outdated = before not in (b"", record)
        if self.outdated:
            self._clear()
        replace_file(self.folder / RECORD_FILE, record)
        self.store = ScoreStore(self.folder, key_of)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    @property
    def known(self) -> Mapping[Key, Row]:
        return self.store.rows

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows on disk, those that are not there yet."""
        self.store.append(row for row in rows if self.store.rows.get(key_of(row)) != row)

    def finish(self, rows: Iterable[Row]) -> None:
        """Write the output, whole or not at all, and drop the draft."""
        replace_file(self.output, format_rows(rows, header=True), named=True)
        self._clear()
        shutil.rmtree(self.folder)

    def _clear(self) -> None:
        for name in (RECORD_FILE, SCORES_FILE):
            (self.folder / name).unlink(missing_ok=True)


def check_output(output: Path) -> None:
    """Before any work: scores can be written there, and what is there is not somebody else's.

    Raises:
        UsageError: a folder, or a file that we did not write.
        OSError: the operating system does not let us.
    """
    if output.is_dir():
        raise UsageError(f"{output} is a folder; --output takes a file, for instance {output / 'scores.csv'}.")
    if output.is_file() and output.stat().st_size:
        with output.open("rb") as file:
            if file.readline().strip() != ",".join(COLUMNS).encode():
                raise UsageError(f"{output} is not a file of scores, and is left alone; choose another --output.")
    check_writable(output)


@dataclass(frozen=True)
class _File:
    """One image file, read, with the entries in which it stands."""

    entries: Sequence[Entry]
    found: ImageFile

    @property
    def pixels(self) -> int:
        return 0 if self.found.image is None else self.found.image.width * self.found.image.height


class _Batch:
    """Files on their way through the pool."""

    def __init__(
        self, files: Sequence[_File], keys: Sequence[str], pool: ScoringPool, known: Mapping[Key, Row]
    ) -> None:
        self.files, self.keys, self.known = files, keys, known
        pairs = [
            (entry, file.found.image)
            for file in files
            for entry in file.entries
            if file.found.image is not None and not all(self._is_known(entry, file, key) for key in keys)
        ]
        self.place = {entry: place for place, (entry, _) in enumerate(pairs)}
        self.future: Future[Scored] | None = None
        if pairs:
            prompts = [entry.prompt or Prompt("") for entry, _ in pairs]
            self.future = pool.submit([image for _, image in pairs], prompts)

    def rows(self) -> list[Row]:
        """Waits for the scores."""
        scored = self.future.result() if self.future is not None else None
        return [
            self._row(entry, file, key, scored) for file in self.files for entry in file.entries for key in self.keys
        ]

    def _is_known(self, entry: Entry, file: _File, key: str) -> bool:
        row = self.known.get((*_identity(entry), key))
        return row is not None and row.settled and row.image_sha == file.found.sha256

    def _row(self, entry: Entry, file: _File, key: str, scored: Scored | None) -> Row:
        if self._is_known(entry, file, key):
            return self.known[(*_identity(entry), key)]
        if file.found.image is None or scored is None:
            status = MISSING if file.found.missing else FAILED
            return _make_row(entry, file, key, status, Score.failed(file.found.problem), None)
        score = scored.scores[key][self.place[entry]]
        return _make_row(entry, file, key, OK if score.ok else FAILED, score, scored.seconds[key])


def _make_row(entry: Entry, file: _File, key: str, status: str, score: Score, seconds: float | None) -> Row:
    image, prompt_id, seed = _identity(entry)
    reason = f"{score.reason} ({score.detail})" if score.detail else score.reason
    return Row(
        run=entry.run,
        suite="",
        suite_sha="",
        prompt_id=prompt_id,
        prompt="" if entry.prompt is None else entry.prompt.text,
        seed=seed,
        image=image,
        image_sha=file.found.sha256,
        reward=key,
        score=score.value,
        status=status,
        detail=score.detail if score.ok else reason,
        seconds=None if seconds is None else round(seconds, 6),
    )


def _identity(entry: Entry) -> tuple[str, str, int]:
    return os.path.abspath(entry.path), "" if entry.prompt is None else entry.prompt.id, entry.seed


def _by_file(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries of each file, at most so many that a worker may have them all at a time."""
    by_path: dict[Path, list[Entry]] = {}
    for entry in entries:
        by_path.setdefault(entry.path, []).append(entry)
    for same in by_path.values():
        for start in range(0, len(same), PAIRS):
            yield same[start : start + PAIRS]


def _read_ahead(readers: ThreadPoolExecutor, parts: Iterable[list[Entry]]) -> Iterator[_File]:
    """Read files, in order; while one is with the caller, the next ones are being read."""
    reading: deque[Future[_File]] = deque()
    for part in parts:
        reading.append(readers.submit(_read_file, part))
        if len(reading) > READ_AHEAD:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


def _cut(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Batches of files, none larger than a worker is handed at a time."""
    batch: list[_File] = []
    for file in files:
        grown = [*batch, file]
        pairs, pixels = sum(len(one.entries) for one in grown), sum(one.pixels for one in grown)
        if batch and (len(grown) > FILES or pairs > PAIRS or pixels > PIXELS):
            yield batch
            grown = [file]
        batch = grown
    if batch:
        yield batch


def _read_file(entries: Sequence[Entry]) -> _File:
    return _File(entries, read_image(entries[0].path))


def _plain(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, default=str, allow_nan=False) + "\n").encode()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
