"""metrics.jsonl after kills, lost bytes and other people's hands."""

import json

import pytest

from dgpo.metrics import append_line, cut_lines, read_lines, set_aside

GOOD = [{"step": step, "reward": step / 8} for step in (1, 2, 3)]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for line in GOOD:
        append_line(file, line)
    return file


def put(path, number, text):
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:number], text, *lines[number:]]))


@pytest.mark.parametrize(
    "text",
    [b"", b"  ", b"{", b"[1]", b"7", b'"x"', b"null", b"{}", b'{"step": "2"}', b'{"step": true}', b"\xff\xfe\x00",
     b"# a remark", b'{"step": 2, "reward": "high"}', b'{"step": 2, "evaluation": [1]}', b"[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_none_is_told_and_kept_aside_and_the_others_are_used(path, text):
    put(path, 1, text)
    assert read_lines(path).whole == GOOD
    (note,) = cut_lines(path, 2)
    assert "is damaged (line 2)" in note
    assert "metrics.damaged-1.jsonl" in note
    assert path.with_name("metrics.damaged-1.jsonl").read_bytes() == text + b"\n"
    assert read_lines(path) == (GOOD[:2], {})
    assert cut_lines(path, 2) == []


def test_each_damage_has_a_file_of_its_own(path):
    for number in (1, 2):
        put(path, 0, b"?" * number)
        cut_lines(path, 3)
        assert path.with_name(f"metrics.damaged-{number}.jsonl").read_bytes() == b"?" * number + b"\n"
    assert read_lines(path).whole == GOOD


def test_a_torn_last_line_is_what_a_kill_leaves_and_a_whole_one_counts(path):
    whole = path.read_bytes()
    for cut in range(1, len(json.dumps(GOOD[-1])) + 1):
        path.write_bytes(whole[: -1 - cut])
        assert cut_lines(path, 3) == []
        assert read_lines(path) == (GOOD[:2], {})
    path.write_bytes(whole[:-1])
    assert read_lines(path).whole == GOOD


def test_what_is_set_aside_stays(path):
    first = set_aside(path)
    append_line(path, {"step": 9})
    second = set_aside(path)
    assert (first.name, second.name) == ("metrics.before-1.jsonl", "metrics.before-2.jsonl")
    assert read_lines(first).whole == GOOD
    assert not path.exists()
