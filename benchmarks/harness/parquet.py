"""Images in a Parquet table: a column `image` with bytes, with Hugging Face's {bytes, path}, or with a path.

Paths are relative to the table. Other columns are `prompt`, and if they are there `seed` and `id`. Listing reads those
only; images are read a few rows at a time, row group by row group. What is damaged costs the rows of its row group from
there on, and the next row group is read again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from errno import EFBIG, EIO, ENODATA
from functools import partial
from itertools import groupby
from typing import Any, NoReturn

from benchmarks.harness.metadata import parse_seed
from benchmarks.harness.places import open_file
from benchmarks.harness.stored import Read, Stored, Told, image_beside, lost_image, read_stored
from rewards.errors import UsageError, load_extra, suggestion
from rewards.images import IMAGE_BYTES
from rewards.tables import settle

IMAGE, PROMPT, SEED, ID = "image", "prompt", "seed", "id"
TEXTS_AT_ONCE, IMAGES_AT_ONCE = 4096, 16
# Pages are read as they are needed, so much at a time; otherwise the whole of a row group would be in memory.
BUFFER = 2**20


@dataclass(frozen=True, slots=True)
class Table:
    """A Parquet file whose images lie in it: a place is a row's number from 0."""

    name: str

    def read(self, places: Sequence[int]) -> Iterator[Read]:
        answered = 0
        try:
            with open_file(self.name) as file:
                for read in self._read(_open(file), places):
                    yield read
                    answered += 1
        except _damage() as error:
            yield from _fail_all(len(places) - answered, error)

    def _read(self, table: Any, places: Sequence[int]) -> Iterator[Read]:
        groups = _row_groups(table)
        ends = [group.end for group in groups]
        for number, rows in groupby(places, key=lambda row: bisect_right(ends, row)):
            if number == len(groups):
                yield from _fail_all(len(list(rows)), OSError(EIO, "the table has no such row any more"))
                continue
            group = groups[number]
            wanted = [row - group.start for row in rows]
            answered = 0
            try:
                for value in _pick(table, group.number, wanted):
                    yield self._answer(value)
                    answered += 1
            except _damage() as error:
                words = f"the table is damaged at rows {group.start} to {group.end - 1} ({_words(error)})"
                yield from _fail_all(len(wanted) - answered, OSError(EIO, words))

    def _answer(self, value: Any) -> Read:
        data = value.get("bytes") if isinstance(value, dict) else value
        path = value.get("path") if isinstance(value, dict) else None
        if data is not None and len(data) > IMAGE_BYTES:
            return partial(_fail, OSError(EFBIG, f"it has {len(data)} bytes, and at most {IMAGE_BYTES} are read"))
        if data is not None:
            return lambda: data
        if path:
            (read,) = read_stored([image_beside(self.name, path)])
            return read
        return partial(_fail, OSError(ENODATA, "the table has no image in this row"))


def list_table(name: str, needed: Sequence[str] = (IMAGE, PROMPT)) -> Iterator[Told]:
    """The rows of a Parquet file, in order; those that cannot be read are told with the reason.

    Raises:
        UsageError: it lacks a column, or has one of another kind.
        SetupError: pyarrow is not installed.
    """
    try:
        with open_file(name) as file:
            table = _open(file)
            kind = _check_columns(name, table.schema_arrow, needed)
            for group in _row_groups(table):
                yield from _list_group(name, table, group, kind)
    except _damage() as error:
        of_disk = isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno)
        yield Told(lost_image(name, error if of_disk else f"it is no whole Parquet file ({_words(error)})"))


@dataclass(frozen=True)
class _Group:
    """The rows of one row group, numbered in the whole table."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class _Kind:
    """Which columns are read for listing, and whether images are files beside the table."""

    columns: Sequence[str]
    paths: bool


def _open(file: Any) -> Any:
    parquet = load_extra("pyarrow.parquet", "tables")
    return parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)


def _damage() -> tuple[type[Exception], ...]:
    """What pyarrow raises on a file that is damaged."""
    return (OSError, MemoryError, UnicodeDecodeError, load_extra("pyarrow", "tables").ArrowException)


def _check_columns(name: str, schema: Any, needed: Sequence[str]) -> _Kind:
    types = load_extra("pyarrow.types", "tables")
    for column in (IMAGE, PROMPT, SEED, ID):
        if column in needed and column not in schema.names:
            near = suggestion(column, schema.names).partition(" Choose")[0]
            raise UsageError(f'{name} has no column "{column}"; it has: {", ".join(schema.names)}.{near}')
        if schema.names.count(column) > 1:
            raise UsageError(f'{name} has {schema.names.count(column)} columns "{column}"; keep one of them.')
    whole = [column for column in (PROMPT, SEED, ID) if column in schema.names]

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)

    def is_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)

    image = schema.field(IMAGE).type
    fields = {field.name: field.type for field in image} if types.is_struct(image) else {}
    bytes_or_path = ("bytes" in fields and is_bytes(fields["bytes"])) or ("path" in fields and is_text(fields["path"]))
    if not (is_bytes(image) or is_text(image) or bytes_or_path):
        raise UsageError(
            f'{name}: its column "{IMAGE}" is {image}; it has to hold bytes, a struct of bytes and path, or a path.'
        )
    if PROMPT in whole and not is_text(schema.field(PROMPT).type):
        raise UsageError(f'{name}: its column "{PROMPT}" is {schema.field(PROMPT).type}; it has to hold texts.')
    return _Kind([*whole, IMAGE], True) if is_text(image) else _Kind(whole, False)


def _row_groups(table: Any) -> list[_Group]:
    groups, start = [], 0
    for number in range(table.metadata.num_row_groups):
        end = start + table.metadata.row_group(number).num_rows
        groups.append(_Group(number, start, end))
        start = end
    return groups


def _list_group(name: str, table: Any, group: _Group, kind: _Kind) -> Iterator[Told]:
    row = group.start
    try:
        for batch in table.iter_batches(TEXTS_AT_ONCE, [group.number], kind.columns):
            for told in batch.to_pylist():
                yield _tell(name, row, told, kind)
                row += 1
    except _damage() as error:
        words = f"the table is damaged at rows {group.start} to {group.end - 1} ({_words(error)})"
        yield from (Told(lost_image(f"{name}#{lost}", words)) for lost in range(row, group.end))


def _tell(name: str, row: int, told: dict[str, Any], kind: _Kind) -> Told:
    where = f"{name}#{row}"
    if not kind.paths:
        image = Stored(where, Table(name), row)
    elif told[IMAGE] and "\0" not in told[IMAGE]:
        image = image_beside(name, told[IMAGE])
    else:
        image = lost_image(where, "the table has no image in this row")
    prompt_id = told.get(ID)
    seed = parse_seed(told.get(SEED), where)
    return Told(image, settle(told.get(PROMPT) or ""), seed, "" if prompt_id is None else str(prompt_id), where)


def _pick(table: Any, group: int, wanted: Sequence[int]) -> Iterator[Any]:
    """The images of some rows of a row group, by their rising numbers in it."""
    start = 0
    rows = iter(wanted)
    row = next(rows)
    for batch in table.iter_batches(IMAGES_AT_ONCE, [group], [IMAGE]):
        while row < start + batch.num_rows:
            yield batch.column(0)[row - start].as_py()
            following = next(rows, None)
            if following is None:
                return
            row = following
        start += batch.num_rows
    raise OSError(EIO, f"it has {start} rows here, and says otherwise")


def _words(error: Exception) -> str:
    """What went wrong, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200].rstrip(".") or type(error).__name__


def _fail_all(count: int, error: Exception) -> Iterator[Read]:
    told = error if isinstance(error, OSError) and error.errno else OSError(EIO, _words(error))
    return (partial(_fail, told) for _ in range(count))


def _fail(error: OSError) -> NoReturn:
    raise OSError(error.errno, error.strerror)
