"""Files of scores: Parquet holds what CSV holds, equal rows are equal bytes, and a stranger's file stays."""

import math
import sys

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.harness.score_files import ROWS_AT_ONCE, check_output, read_scores, write_scores
from benchmarks.harness.store import COLUMNS, FAILED, MISSING, OK, Row
from rewards.errors import SetupError, UsageError


def make(place, score: float | None = 0.1, status=OK, detail="", prompt="a cat"):
    seconds = None if status == MISSING else 0.25
    return Row("run", "", "", "id", prompt, place, f"{place}.png", "0" * 64, "ocr@1", score, status, detail, seconds)


ROWS = [
    make(0, 0.1 + 0.2),
    make(1, None, FAILED, 'read "x, y"\nand more\r'),
    make(2, None, MISSING, "there is no image"),
    make(2**63 - 1, -1e-300, prompt="é\u2028 と\x0c"),
]


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_rows_come_back_as_they_were(tmp_path, name):
    for rows in (ROWS, []):
        write_scores(tmp_path / name, rows)
        assert read_scores(tmp_path / name) == rows
        once = (tmp_path / name).read_bytes()
        write_scores(tmp_path / name, iter(rows))
        assert (tmp_path / name).read_bytes() == once
        check_output(tmp_path / name)


def test_parquet_has_types_and_csv_has_the_same_rows(tmp_path):
    odd = make(0, prompt="NUL \0 and half a character \udcff")
    for name in ("scores.csv", "scores.parquet"):
        write_scores(tmp_path / name, [*ROWS, odd])
    assert read_scores(tmp_path / "scores.csv") == read_scores(tmp_path / "scores.parquet")
    schema = pq.read_schema(tmp_path / "scores.parquet")
    assert tuple(schema.names) == COLUMNS
    numbers = {"seed": pa.int64(), "score": pa.float64(), "seconds": pa.float64()}
    assert [schema.field(name).type for name in COLUMNS] == [numbers.get(name, pa.string()) for name in COLUMNS]
    table = pandas.read_parquet(tmp_path / "scores.parquet")
    assert table["score"].tolist()[0] == 0.1 + 0.2
    assert math.isnan(table["score"].tolist()[1])


def test_many_rows_are_written_in_pieces(tmp_path):
    rows = [make(place, place / 7) for place in range(ROWS_AT_ONCE + 3)]
    for name in ("scores.csv", "scores.parquet"):
        write_scores(tmp_path / name, iter(rows))
        assert read_scores(tmp_path / name) == rows
    assert pq.ParquetFile(tmp_path / "scores.parquet").metadata.num_row_groups == 2


@pytest.mark.parametrize("data", [b"thesis\n", b"PAR1 and then nothing", b"PAR1"])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_what_is_not_ours_is_left_alone(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match="is not a file of scores, and is left alone"):
        check_output(tmp_path / name)
    assert (tmp_path / name).read_bytes() == data


def test_a_table_of_somebody_else_is_left_alone(tmp_path):
    pq.write_table(pa.table({"image": [b"x"], "prompt": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="is left alone"):
        check_output(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="it is not a file of `dgpo score`"):
        read_scores(tmp_path / "a.parquet")


def test_parquet_goes_into_no_pipe_and_needs_its_package(tmp_path, monkeypatch):
    (tmp_path / "null.parquet").symlink_to("/dev/null")
    with pytest.raises(UsageError, match=r"Parquet is written to a file; give it as \.csv"):
        check_output(tmp_path / "null.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SetupError, match=r"pip install 'dgpo\[tables\]'"):
        check_output(tmp_path / "a.parquet")
    check_output(tmp_path / "a.csv")
