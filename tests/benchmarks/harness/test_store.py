"""scores.csv survives kills, keeps odd text, and never turns a failure into a number."""

import math
from dataclasses import replace
from unittest.mock import patch

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import load_scores
from benchmarks.harness.store import COLUMNS, FAILED, Row, ScoreStore, read_rows
from rewards.errors import UsageError


@pytest.fixture
def rows(suite, make_row):
    return [make_row(suite, number, seed, score=number + seed / 10) for number in range(3) for seed in range(2)]


def test_the_header_is_the_published_schema(tmp_path, rows):
    ScoreStore(tmp_path).append(rows)
    first = (tmp_path / "scores.csv").read_text().splitlines()[0]
    assert first == ("run,suite,suite_sha,prompt_id,prompt,seed,image,image_sha,reward,score,status,detail,seconds")


def test_rows_come_back_as_they_were(tmp_path, rows):
    store = ScoreStore(tmp_path)
    store.append(rows[:2])
    store.append(rows[2:])
    assert read_rows(tmp_path) == rows
    assert list(ScoreStore(tmp_path).rows.values()) == rows


def test_every_kill_point_leaves_a_readable_file(tmp_path, suite, make_row, monkeypatch):
    """Cut the file after each byte: what is read is a prefix of the rows, and the file can be continued."""
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of waits for the disk would prove nothing more
    rows = [make_row(suite, 2, 0), make_row(suite, 0, 1, score=None), make_row(suite, 1, 0, score=-2.5)]
    ScoreStore(tmp_path).append(rows)
    path = tmp_path / "scores.csv"
    whole = path.read_bytes()
    assert b'""OPEN""' in whole  # the interesting cuts are those inside quoted text
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        store = ScoreStore(tmp_path)
        kept = list(store.rows.values())
        assert kept == rows[: len(kept)]
        assert store.torn == (path.read_bytes() != whole[:cut])
        store.append(rows[len(kept) :])
        assert read_rows(tmp_path) == rows
        if cut and whole[cut - 1 : cut] == b"\n":
            assert path.read_bytes() == whole


def test_line_breaks_and_quotes_inside_text_are_kept(tmp_path, suite, make_row):
    row = replace(make_row(suite, 0, 0), detail='one\r\ntwo "three", four\rfive\n')
    ScoreStore(tmp_path).append([row, make_row(suite, 1, 0)])
    path = tmp_path / "scores.csv"
    path.write_bytes(path.read_bytes()[:-5])
    assert [row.detail for row in read_rows(tmp_path)] == [row.detail]
    assert pandas.read_csv(path).detail[0] == row.detail


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(max_size=10) | st.sampled_from(['"', '""x', '"x\n', "\r", "a\rb", "\r\n", ","]), min_size=2)
)
def test_whatever_was_written_can_be_read_again(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    rows = [Row("", "", "", str(n), text, n, text, "", text, None, FAILED, text, None) for n, text in enumerate(texts)]
    with patch("os.fsync"):  # waiting for the disk would prove nothing more
        ScoreStore(folder).append(rows[:1])
        ScoreStore(folder).append(rows[1:])
    kept = [text.replace("\0", "").encode(errors="replace").decode() for text in texts]
    assert [(row.prompt, row.image, row.detail) for row in read_rows(folder)] == [(text, text, text) for text in kept]
    assert not ScoreStore(folder).torn


def test_a_prompt_may_be_long(tmp_path, suite, make_row):
    row = replace(make_row(suite, 0, 0), prompt="long " * 100_000)
    ScoreStore(tmp_path).append([row])
    assert read_rows(tmp_path) == [row]


def test_damage_that_is_no_text_and_places_that_are_no_files_are_told(tmp_path, rows):
    ScoreStore(tmp_path).append(rows)
    with (tmp_path / "scores.csv").open("ab") as file:
        file.write(b"\xff,\n")
    with pytest.raises(UsageError, match=r"scores\.csv, line 8: not UTF-8"):
        read_rows(tmp_path)
    (tmp_path / "scores.csv").unlink()
    (tmp_path / "scores.csv").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"scores\.csv: cannot be read .it is not a regular file"):
        read_rows(tmp_path)


def test_a_later_row_replaces_an_earlier_one(tmp_path, suite, make_row):
    store = ScoreStore(tmp_path)
    store.append([make_row(suite, 0, 0, score=None)])
    store.append([make_row(suite, 0, 0, score=0.75)])
    assert [row.score for row in read_rows(tmp_path)] == [0.75]


def test_a_failed_row_cannot_carry_a_number(suite, make_row):
    row = make_row(suite, 0, 0, score=None)
    for score, status in ((0.0, "failed"), (None, "ok"), (math.nan, "ok")):
        with pytest.raises(AssertionError):
            replace(row, score=score, status=status)


def test_typed_table(tmp_path, suite, make_row):
    ScoreStore(tmp_path).append([make_row(suite, 0, 3, score=0.5), make_row(suite, 1, 3, score=None)])
    table = load_scores(tmp_path)
    assert tuple(table.columns) == COLUMNS
    assert table["seed"].tolist() == [3, 3]
    assert table["score"].tolist()[0] == 0.5
    assert math.isnan(table["score"].tolist()[1])
    assert table["detail"].tolist() == ["", "the engine gave up"]
    assert table["score"].dtype == "float64"


def test_scores_keep_every_bit(tmp_path, suite, make_row):
    ScoreStore(tmp_path).append([make_row(suite, 0, 0, score=0.1 + 0.2)])
    assert read_rows(tmp_path)[0].score == 0.1 + 0.2


def test_damage_in_the_middle_names_the_line(tmp_path, rows):
    ScoreStore(tmp_path).append(rows)
    path = tmp_path / "scores.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1] + "half,a,row\n" + lines[2])
    with pytest.raises(UsageError, match=r"scores\.csv, line 3: this row is damaged"):
        read_rows(tmp_path)


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "scores.csv").write_text("name,score\nx,1\n")
    with pytest.raises(UsageError, match="does not begin with the columns"):
        ScoreStore(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        read_rows(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no scores\.csv"):
        read_rows(tmp_path / "empty")
