"""Texts go out and come back as they were, whatever is in them; what cannot be read is told by line."""

import csv
import io
import json
import os
from pathlib import Path

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.errors import UsageError
from rewards.prompt import Prompt, read_prompts
from rewards.tables import TEXT_BYTES, csv_cells, csv_rows, json_rows, matching, read_text, settle, write_cells

# Every line end of str.splitlines, white space of all kinds, quotes, and both forms of an accent.
ODD = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000\ufeff \",'\\=é" + "e\u0301"
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(ODD)
ANY = st.text(CHARACTERS, max_size=12)
PROMPTS = st.lists(ANY.filter(settle), min_size=1, max_size=4)
TORN = ["a cat\u2028on a mat", "a\rb", "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2029h", '"HI" ', "x\r\n", "\ufeffy", "\x1ca"]


def by_csv(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def by_pandas(rows):
    return pandas.DataFrame(rows[1:], columns=rows[0]).to_csv(index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("prompts")


@pytest.mark.parametrize("write", [by_csv, by_pandas])
@settings(max_examples=150, deadline=None)
@given(texts=PROMPTS)
@example(texts=TORN)
def test_any_prompt_comes_back_from_csv(folder, write, texts):
    path = folder / "p.csv"
    path.write_bytes(write([["n", "prompt"], *([str(n), text] for n, text in enumerate(texts))]).encode())
    assert [prompt.text for prompt in read_prompts(path)] == [settle(text) for text in texts]


@pytest.mark.parametrize("ascii_only", [True, False])
@settings(max_examples=100, deadline=None)
@given(texts=PROMPTS)
@example(texts=TORN)
def test_any_prompt_comes_back_from_json_lines(folder, ascii_only, texts):
    path = folder / "p.jsonl"
    lines = [json.dumps({"prompt": text, "tag": text}, ensure_ascii=ascii_only) + "\r\n" for text in texts]
    path.write_bytes("".join(lines).encode())
    assert read_prompts(path) == [Prompt(settle(text), {"tag": text}) for text in texts]


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(ANY.filter(settle).filter(lambda text: "\n" not in text), min_size=1, max_size=4))
@example(texts=["a\x0bb\x0c", "c\u2028d", "e\rf", "\xa0g\u3000"])
def test_any_line_comes_back_from_a_text_file(folder, texts):
    path = folder / "p.txt"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode())
    assert [prompt.text for prompt in read_prompts(path)] == [
        settle(text.removeprefix("\ufeff")) for text in texts[:1]
    ] + [settle(text) for text in texts[1:]]


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(ANY, ANY.filter(bool)), min_size=1, max_size=4))
@example(rows=[("a\rb", '"'), ("", "\r"), (" x ", "\r\n"), ("\n", '""')])
def test_cells_that_we_write_are_read_exactly_by_us_by_csv_and_by_pandas(folder, rows):
    text = "".join(map(write_cells, rows))
    assert [tuple(row) for _, row in csv_cells(folder, text)] == rows
    assert [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))] == rows
    table = pandas.read_csv(io.StringIO(text, newline=""), header=None, keep_default_na=False, dtype=str)
    assert [tuple(row) for row in table.to_numpy()] == rows


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60), ending=st.sampled_from(["txt", "csv", "jsonl"]))
def test_random_bytes_are_prompts_or_a_sentence(folder, data, ending):
    path = folder / f"bytes.{ending}"
    path.write_bytes(b"prompt\n" * (ending == "csv") + data)
    try:
        prompts = read_prompts(path)
    except UsageError:
        return
    assert all(prompt.text and prompt.id for prompt in prompts)


def test_texts_are_compared_composed_and_without_their_ends():
    assert matching(" cafe\u0301\u3000") == matching("café\n") == "café"
    assert Prompt("cafe\u0301").id != Prompt("café").id  # a prompt is drawn from as it was written


def test_a_file_without_lf_has_lines_that_end_with_cr(folder):
    (folder / "mac.txt").write_bytes(b"a cat\ra dog\r")
    assert [prompt.text for prompt in read_prompts(folder / "mac.txt")] == ["a cat", "a dog"]


def test_a_cell_may_be_long(folder):
    long = "x" * 150_000
    (folder / "long.csv").write_text(f"prompt,meta\na dog,{long}\n{long},\n")
    assert [prompt.text for prompt in read_prompts(folder / "long.csv")] == ["a dog", long]
    assert csv.field_size_limit() == TEXT_BYTES


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("prompt\na cat, asleep\n", "line 2: has 2 cells under 1 columns; a text with commas stands in double quotes"),
        ('prompt\n"HELLO" on a sign\n', "line 2: not as CSV is written"),
        ('prompt\n"a cat\na dog\n', "line 3: not as CSV is written"),
        ("prompt,prompt\na,b\n", 'line 1: has 2 columns "prompt"'),
        ("prompt;seed\na;1\n", 'needs a column "prompt"; it has: prompt;seed'),
    ],
)
def test_tables_that_mean_something_else_are_refused(folder, table, said):
    with pytest.raises(UsageError, match=said):
        list(csv_rows(folder / "t.csv", table, ["prompt"]))


def test_tables_as_people_type_them(folder):
    table = 'file_name, prompt ,seed,,\na.png, "a cat, asleep"\n,,,,\n\nb.png,a 24" sign,3,,\n'
    rows = [(line, row["file_name"], row["prompt"], row["seed"]) for line, row in csv_rows(folder, table, ["prompt"])]
    assert rows == [(2, "a.png", "a cat, asleep", ""), (5, "b.png", 'a 24" sign', "3")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a smile \\ud83d"}', "line 1: The prompt 'a smile .ud83d' holds half of a character"),
        ('{"prompt": "a\\u0000b"}', "line 1: The prompt .* holds a NUL character"),
        ('{"prompt": "a", "x": 1e999}', "line 1: not JSON .1e999 is too large"),
        (f'{{"prompt": "a", "x": {"9" * 5000}}}', "line 1: not JSON .*4300 digits"),
        (f'{{"prompt": "a", "x": {"[" * 100_000}', "line 1: not JSON .*recursion"),
        ('{"prompt": "a", "prompt": "b"}', 'line 1: not JSON ."prompt" is given twice'),
    ],
)
def test_json_that_cannot_be_a_prompt_is_refused_by_line(folder, line, said):
    (folder / "p.jsonl").write_text(line)
    with pytest.raises(UsageError, match=said):
        read_prompts(folder / "p.jsonl")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("café\n".encode("cp1252"), "line 1: not UTF-8 at byte 3; save it as UTF-8"),
        ("a\ncafé\n".encode("utf-16"), "line 1: not UTF-8 at byte 0"),
        ("a\n".encode("utf-16-le"), "line 1: holds a NUL character"),
        (b"a\nb\0\n", "line 2: holds a NUL character"),
    ],
)
def test_other_encodings_are_told_by_line(folder, data, said):
    (folder / "t.txt").write_bytes(data)
    with pytest.raises(UsageError, match=said):
        read_text(folder / "t.txt")


def test_what_is_no_regular_file_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.txt")
    for path in (folder / "pipe.txt", Path("/dev/zero")):
        with pytest.raises(UsageError, match=r"cannot be read .it is not a regular file"):
            read_text(path)
    for path in (folder / "absent", folder / "t.txt" / "below", folder / ("x" * 300)):
        with pytest.raises(UsageError, match=r"there is no such list|cannot be read .File name too long"):
            read_text(path, "list")


def test_rows_of_json_are_objects(folder):
    assert list(json_rows(folder, '{"a": 1}\n\n {"b": 2.5} \n')) == [(1, {"a": 1}), (3, {"b": 2.5})]
    with pytest.raises(UsageError, match="line 2: needs a JSON object"):
        list(json_rows(folder, '{"a": 1}\n[1]\n'))
