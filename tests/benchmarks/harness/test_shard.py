"""Shards: every image in exactly one of them, in order, and tars whole where that is possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.listing import Entry, group_by_image
from benchmarks.harness.shard import Part, Shard, cut, fingerprint_of, parse_shard, read_part, record_path
from benchmarks.harness.stored import Stored, file_image
from benchmarks.harness.tars import Tar
from rewards.errors import UsageError
from rewards.prompt import Prompt


def tar_entries(*sizes):
    """Entries of tars a.tar, b.tar and so on, of so many images."""
    return [
        Entry(Stored(f"/{chr(97 + tar)}.tar#{place}.png", Tar(f"/{chr(97 + tar)}.tar"), (place, 1)), "", None, place)
        for tar, size in enumerate(sizes)
        for place in range(size)
    ]


def sizes_of(entries, count):
    return [len(cut(entries, Shard(number, count))) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([100] * 8, 8, [100] * 8),
        ([100] * 8, 4, [200] * 4),
        ([99, 101, 98, 102], 4, [99, 101, 98, 102]),
        ([100] * 3, 2, [200, 100]),
        ([1000], 4, [250] * 4),
        ([1000, 10, 10], 2, [510, 510]),
        ([100] * 2, 4, [50] * 4),
        ([3], 5, [0, 1, 0, 1, 1]),
        ([], 2, [0, 0]),
    ],
)
def test_parts_by_hand(sizes, count, expected):
    assert sizes_of(tar_entries(*sizes), count) == expected


@given(st.lists(st.integers(1, 30), max_size=8), st.integers(1, 12))
def test_parts_behind_each_other_are_the_whole(sizes, count):
    entries = tar_entries(*sizes)
    assert [one for number in range(1, count + 1) for one in cut(entries, Shard(number, count))] == entries


def test_an_image_under_several_prompts_stays_in_one_shard():
    entries = [
        Entry(file_image(f"/{name}.png"), "", Prompt(f"prompt {number}"), 0) for number in range(3) for name in "abcd"
    ]
    parts = [cut(entries, Shard(number, 4)) for number in range(1, 5)]
    assert [{entry.image.name for entry in part} for part in parts] == [{f"/{name}.png"} for name in "abcd"]
    assert [entry for part in parts for entry in part] == [entry for same in group_by_image(entries) for entry in same]


@pytest.mark.parametrize("text", ["", "3", "3/", "/8", "a/b", "-1/8", "1.5/8", "3/8/9", "3 / 8", "٣/8"])
def test_nonsense_is_refused(text):
    with pytest.raises(UsageError, match="--shard takes I/N, for instance 3/8"):
        parse_shard(text)


@pytest.mark.parametrize("text", ["0/8", "9/8", "0/0", "1/0"])
def test_numbers_outside_are_told_how_a_job_array_counts(text):
    with pytest.raises(UsageError, match=r"numbered from 1 to N, as a job array with --array=1-8 .*ID \+ 1"):
        parse_shard(text)


def test_a_shard_is_read_as_it_is_written():
    assert parse_shard(" 3/8 ") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"


def test_the_fingerprint_tells_names_prompts_and_seeds():
    entry = Entry(file_image("/a.png"), "run", Prompt("a"), 0)
    others = [
        Entry(file_image("/b.png"), "run", Prompt("a"), 0),
        Entry(file_image("/a.png"), "ran", Prompt("a"), 0),
        Entry(file_image("/a.png"), "run", Prompt("a", {"count": 2}), 0),
        Entry(file_image("/a.png"), "run", None, 0),
        Entry(file_image("/a.png"), "run", Prompt("a"), 1),
    ]
    assert len({fingerprint_of([one]) for one in [entry, *others]}) == 6
    assert fingerprint_of([entry, *others]) != fingerprint_of([*others, entry])


class TestRecord:
    @pytest.fixture
    def part(self, tmp_path):
        part = Part(Shard(2, 3), 5, 15, "f" * 64, {"ocr@1": {"provenance": {"engine": "brass"}}})
        (tmp_path / "s.csv").write_text("rows\n")
        part.write(tmp_path / "s.csv")
        return part

    def test_it_comes_back(self, part, tmp_path):
        assert read_part(tmp_path / "s.csv") == part

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda scores: scores.write_text("other rows\n"), "it was changed"),
            (lambda scores: scores.unlink(), "There is no file"),
            (lambda scores: record_path(scores).unlink(), r"is no shard: s\.csv\.shard\.json.* is not there"),
            (lambda scores: record_path(scores).write_text("{"), "is damaged"),
            (lambda scores: record_path(scores).write_text("[]"), "is damaged"),
            (lambda scores: record_path(scores).write_text('{"schema": 1}'), "is damaged"),
            (lambda scores: record_path(scores).write_text('{"schema": 2}'), "by a newer version of dgpo"),
        ],
    )
    def test_without_its_file_it_says_nothing(self, part, tmp_path, change, said):
        change(tmp_path / "s.csv")
        with pytest.raises(UsageError, match=said):
            read_part(tmp_path / "s.csv")
