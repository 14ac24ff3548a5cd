"""scores.csv: one row a score, and the state from which a killed evaluation goes on.

Rows are appended as blocks of images are finished, one write a block. A process killed in the middle of a write leaves
a torn last row; it is recognised (the file must end with a complete record) and dropped. A later row of the same
prompt, seed and reward replaces an earlier one, so a score that is made again is simply appended; `rewrite` then brings
the file into one order. Of several processes each appends to a file of its own, scores.part-RANK.csv, until the main
one merges them; what a killed command left there is merged when the folder is opened next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.errors import UsageError
from rewards.files import append_file, read_regular, replace_file
from rewards.score import DEADLY
from rewards.tables import csv_cells, decode, write_cells

if TYPE_CHECKING:
    import pandas

SCORES_FILE = "scores.csv"
PART = "scores.part-"
OK, FAILED, MISSING = "ok", "failed", "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One score of one image, or the reason in `detail` why there is none.

    `score` is in the reward's raw unit and None unless `status` is ok; `missing` is a failure whose image was not
    there. `image` is relative to the results folder if it lies inside. `seconds` is the time of scoring this image.
    """

    run: str
    suite: str
    suite_sha: str
    prompt_id: str
    prompt: str
    seed: int
    image: str
    image_sha: str
    reward: str
    score: float | None
    status: str
    detail: str
    seconds: float | None

    def __post_init__(self) -> None:
        assert self.status in (OK, FAILED, MISSING), self.status
        assert (self.score is not None and math.isfinite(self.score)) == (self.status == OK), (
            "only an ok row has a score"
        )

    @property
    def key(self) -> Key:
        return self.prompt_id, self.seed, self.reward

    @property
    def deadly(self) -> bool:
        """Whether this image killed the process that scored it alone."""
        return self.status == FAILED and self.detail.startswith(DEADLY)

    @property
    def settled(self) -> bool:
        """Whether the same command leaves it as it is; other failures are tried again."""
        return self.status == OK or self.deadly


Key = tuple[str, int, str]
COLUMNS = tuple(field.name for field in fields(Row))


class ScoreStore:
    """The scores of one folder, in memory and on disk; what is in `rows` is also in a file.

    Rows of the same `key_of` replace each other. With `rank`, this is one of several processes: it knows what the
    folder held when it came, and what it appends goes to its own part.
    """

    def __init__(
        self, folder: Path, key_of: Callable[[Row], Any] = lambda row: row.key, *, rank: int | None = None
    ) -> None:
        self.folder = folder
        self.path = folder / SCORES_FILE
        self.target = self.path if rank is None else folder / f"{PART}{rank}.csv"
        self.key_of = key_of
        self.rows: dict[Any, Row] = {}
        self.torn = False
        if rank is not None:
            self._read(self.path)
            return
        self._read(self.path)
        self.merge()

    def append(self, rows: Iterable[Row]) -> None:
        """Add finished scores with one write, on disk when this returns."""
        rows = list(rows)
        if not rows:
            return
        new = not self.target.exists() or self.target.stat().st_size == 0
        append_file(self.target, format_rows(rows, header=new))
        self.rows.update((self.key_of(row), row) for row in rows)

    def rewrite(self, rows: Iterable[Row]) -> None:
        """Replace the whole file by these rows, in this order; a kill leaves either the old file or the new one."""
        rows = list(rows)
        replace_file(self.path, format_rows(rows, header=True))
        self.rows = {self.key_of(row): row for row in rows}

    def merge(self) -> None:
        """Take the parts of all processes into the one file; a kill in between leaves rows twice, never lost."""
        parts = _parts(self.folder)
        for path in parts:
            self._read(path)
        if parts or self.torn:
            self.rewrite(self.rows.values())
        for path in parts:
            path.unlink()

    def _read(self, path: Path) -> None:
        if path.exists():
            data = read_data(path)
            complete = _complete_records(data)
            self.rows.update((self.key_of(row), row) for row in parse_rows(path, complete))
            self.torn |= len(complete) < len(data)


def read_rows(folder: Path) -> list[Row]:
    """The scores in a results folder, the latest of each prompt, seed and reward; the file is left as it is."""
    check_folder(folder)
    if not holds_scores(folder):
        raise UsageError(f"{folder} holds no {SCORES_FILE}; name a folder that `dgpo eval --output` has written.")
    return list({row.key: row for row in read_all_rows(folder)}.values())


def check_folder(folder: Path) -> None:
    """UsageError for what is no folder, or none of results, in words that say what it seems to be."""
    if not folder.exists():
        raise UsageError(f"There is no folder {folder}; name one that `dgpo eval --output` has written.")
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is a file, and results are a folder, with run.json and scores.csv in it. To get one from images"
            f" that are already there: dgpo eval --suite PROMPTS --images DIR --output FOLDER"
        )
    if (folder / "checkpoints").is_dir():
        raise UsageError(
            f"{folder} is a training run. Measure its model first: dgpo eval --suite NAME --model {folder}"
        )


def read_all_rows(folder: Path) -> list[Row]:
    """Every row in a folder that may be under way, of the parts too; the files are left as they are."""
    paths = [path for path in (folder / SCORES_FILE, *_parts(folder)) if path.exists()]
    return [row for path in paths for row in parse_rows(path, _complete_records(read_data(path)))]


def holds_scores(folder: Path) -> bool:
    """Whether there are scores in a folder, be it those of a command that was killed."""
    return (folder / SCORES_FILE).exists() or bool(_parts(folder))


def load_scores(folder: Path | str) -> pandas.DataFrame:
    """scores.csv as a typed table: text columns are never NaN, and a score that could not be made is NaN."""
    import pandas

    rows = read_rows(Path(folder))
    table = pandas.DataFrame([[getattr(row, name) for name in COLUMNS] for row in rows], columns=list(COLUMNS))
    return table.astype({"seed": "int64", "score": "float64", "seconds": "float64"})


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PART}*.csv"))


def read_data(path: Path) -> bytes:
    """What a file holds; UsageError where it cannot be read."""
    try:
        return read_regular(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error


def _complete_records(data: bytes) -> bytes:
    """The part of a CSV file up to the end of its last complete record.

    A record ends at a newline outside quotes, that is one with an even number of quote characters before it.
    """
    end = data.rfind(b"\n")
    while end >= 0 and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end)
    return data[: end + 1]


def format_rows(rows: Iterable[Row], *, header: bool) -> bytes:
    """Rows as CSV, under the names of the columns if `header`."""
    cells = ([_cell(getattr(row, name)) for name in COLUMNS] for row in rows)
    lines = map(write_cells, [COLUMNS, *cells] if header else cells)
    return "".join(lines).encode()


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return plain_text(value) if isinstance(value, str) else repr(value)


def plain_text(text: str) -> str:
    """A text as files of scores hold it: without NUL, and a question mark for half of a character."""
    return text.replace("\0", "").encode("utf-8", errors="replace").decode()


def parse_rows(path: Path, data: bytes) -> list[Row]:
    """The rows in the bytes of a CSV file; UsageError for what is none of ours, or damaged."""
    cells = csv_cells(path, decode(path, data))
    header = next(cells, None)
    if header is None:
        return []
    if tuple(header[1]) != COLUMNS:
        raise UsageError(
            f"{path} does not begin with the columns {','.join(COLUMNS)}; it is not a file of `dgpo eval`."
        )
    rows = []
    for line, values in cells:
        try:
            rows.append(_row(dict(zip(COLUMNS, values, strict=True))))
        except (ValueError, AssertionError) as error:
            raise UsageError(
                f"{path}, line {line}: this row is damaged ({error}). Delete the row, and run the same"
                " `dgpo eval` again: it makes only what is missing."
            ) from error
    return rows


def _row(cell: dict[str, str]) -> Row:
    text = {name: cell[name] for name in COLUMNS if name not in ("seed", "score", "seconds")}
    return Row(
        **text,
        seed=int(cell["seed"]),
        score=float(cell["score"]) if cell["score"] else None,
        seconds=float(cell["seconds"]) if cell["seconds"] else None,
    )
