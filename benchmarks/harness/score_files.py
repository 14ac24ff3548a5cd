"""A file of scores by itself, CSV or (ending in .parquet) Parquet: written whole or not at all, and read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, Any

from benchmarks.harness.store import COLUMNS, Row, format_rows, parse_rows, plain_text, read_data
from rewards.errors import UsageError, load_extra
from rewards.files import check_writable, is_stream, open_regular, replacing

# A row group of Parquet, and so much is in memory twice while it is written.
ROWS_AT_ONCE = 2**16
NUMBERS = {"seed": "int64", "score": "float64", "seconds": "float64"}


def is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def write_scores(path: Path, rows: Iterable[Row]) -> None:
    """Write rows, in this order, under the columns of scores.csv; equal rows give equal bytes."""
    rows = iter(rows)
    with replacing(path, named=True) as file:
        if is_parquet(path):
            _write_parquet(file, rows)
            return
        file.write(format_rows((), header=True))
        while some := list(islice(rows, ROWS_AT_ONCE)):
            file.write(format_rows(some, header=False))


def read_scores(path: Path) -> list[Row]:
    """The rows of such a file.

    Raises:
        UsageError: it is none of ours, or damaged.
        SetupError: pyarrow, which reads Parquet, is not installed.
    """
    if not is_parquet(path):
        return parse_rows(path, read_data(path))
    if not _holds_scores(path):
        raise UsageError(f"{path} does not have the columns {','.join(COLUMNS)}; it is not a file of `dgpo score`.")
    with open_regular(path) as file:
        return [Row(**row) for row in load_extra("pyarrow.parquet", "tables").read_table(file).to_pylist()]


def check_output(output: Path) -> None:
    """Before any work: scores can be written there, and what is there is not somebody else's.

    Raises:
        UsageError: a folder, a file that we did not write, or Parquet into a pipe.
        SetupError: pyarrow, which writes Parquet, is not installed.
        OSError: the operating system does not let us.
    """
    if output.is_dir():
        raise UsageError(f"{output} is a folder; --output takes a file, for instance {output / 'scores.csv'}.")
    if is_parquet(output):
        load_extra("pyarrow.parquet", "tables")
        if is_stream(output):
            raise UsageError(f"{output} is a pipe or a device, and Parquet is written to a file; give it as .csv.")
    if output.is_file() and output.stat().st_size and not _holds_scores(output):
        raise UsageError(f"{output} is not a file of scores, and is left alone; choose another --output.")
    check_writable(output)


def _holds_scores(path: Path) -> bool:
    with open_regular(path) as file:
        if file.readline().strip() == ",".join(COLUMNS).encode():
            return True
        file.seek(0)
        if file.read(4) != b"PAR1":
            return False
        file.seek(0)
        pyarrow = load_extra("pyarrow", "tables")
        try:
            return tuple(load_extra("pyarrow.parquet", "tables").read_schema(file).names) == COLUMNS
        except (pyarrow.ArrowException, OSError):
            return False


def _write_parquet(file: IO[bytes], rows: Iterable[Row]) -> None:
    arrow, parquet = load_extra("pyarrow", "tables"), load_extra("pyarrow.parquet", "tables")
    schema = arrow.schema([(name, getattr(arrow, NUMBERS.get(name, "string"))()) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            columns = {name: [_value(getattr(row, name)) for row in some] for name in COLUMNS}
            writer.write_table(arrow.Table.from_pydict(columns, schema))


def _value(value: Any) -> Any:
    return plain_text(value) if isinstance(value, str) else value
