"""The file that scores of images are written to, and the draft from which a killed command goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness.record import RECORD_FILE, describe_reward
from benchmarks.harness.score_files import check_output, write_scores
from benchmarks.harness.shard import Part, record_path
from benchmarks.harness.shares import LOCK_FILE
from benchmarks.harness.store import SCORES_FILE, Row, ScoreStore
from rewards.files import locked, replace_file
from rewards.pool import RewardFacts

Key = tuple[str, str, int, str]


def key_of(row: Row) -> Key:
    """What tells one score from another: image, prompt, seed and reward."""
    return row.image, row.prompt_id, row.seed, row.reward


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

    def finish(self, rows: Iterable[Row], part: Part | None = None) -> None:
        """Write the output, whole or not at all, with what it is a part of beside it, and drop the draft."""
        write_scores(self.output, rows)
        if part is not None:
            part.write(self.output)
        else:
            record_path(self.output).unlink(missing_ok=True)  # the output was a part of something before
        self._clear()
        shutil.rmtree(self.folder)

    def _clear(self) -> None:
        for name in (RECORD_FILE, SCORES_FILE):
            (self.folder / name).unlink(missing_ok=True)


def _plain(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, default=str, allow_nan=False) + "\n").encode()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
