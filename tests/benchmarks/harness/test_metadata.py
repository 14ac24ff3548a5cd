"""A folder's list of images finds its prompts, whatever program or operating system the texts went through."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.harness.images import FoundImages
from benchmarks.harness.listing import list_images
from benchmarks.harness.metadata import read_metadata
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.prompt import Prompt
from rewards.tables import matching

TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10).filter(matching),
    min_size=1,
    max_size=3,
    unique_by=matching,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


def by_csv(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["file_name", "prompt"], *rows])
    return text.getvalue()


def by_pandas(rows):
    return pandas.DataFrame(rows, columns=["file_name", "prompt"]).to_csv(index=False)


def by_json(rows):
    return "".join(json.dumps({"file_name": name, "prompt": text}) + "\n" for name, text in rows)


@pytest.mark.parametrize(("write", "file"), [(by_csv, "csv"), (by_pandas, "csv"), (by_json, "jsonl")])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@settings(max_examples=40, deadline=None)
@given(texts=TEXTS)
@example(texts=["café\u2028at night", " a cat\u3000", "a\rb", "Å"])
def test_eval_and_score_find_any_prompt_in_any_form(folder, write, file, form, texts):
    for old in folder.iterdir():
        old.unlink()
    prompts = tuple(Prompt(text, {"number": number}) for number, text in enumerate(texts))
    rows = [(f"{number}.png", unicodedata.normalize(form, f" {text}\n")) for number, text in enumerate(texts)]
    (folder / f"metadata.{file}").write_bytes(write(rows).encode())
    paths = [folder / f"{number}.png" for number in range(len(texts))]
    assert list(FoundImages(folder, Suite("s", prompts, "")).paths.values()) == paths
    entries = list_images([folder], prompts)
    assert [(Path(entry.image.name), entry.prompt) for entry in entries] == list(zip(paths, prompts, strict=True))


def test_fields_of_json_are_read_like_columns(folder):
    path = folder / "list.jsonl"
    path.write_text('{"file_name": "a.png", "prompt": " a cat ", "seed": 3, "width": [1]}\n{"file_name": "b/c.png"}\n')
    found = [(row.file_name, row.prompt, row.seed) for row in read_metadata(path)]
    assert found == [("a.png", "a cat", 3), ("b/c.png", "", None)]
    with pytest.raises(UsageError, match="line 2: a row needs a prompt"):
        read_metadata(path, ("file_name", "prompt"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("file_name,prompt\nplain.png,café\n".encode("cp1252"), "line 2: not UTF-8"),
        (b"file_name,seed\na.png,1.5\n", 'line 2: the seed "1.5"'),
        (b"file_name,seed\na.png,99999999999999999999\n", "line 2: the seed"),
        (b"file_name,prompt,prompt\na.png,b,c\n", 'has 2 columns "prompt"'),
        (b"file_name,prompt\na.png,a cat, asleep\n", "line 2: has 3 cells under 2 columns"),
        (b"file_name\n", "lists no image"),
    ],
)
def test_lists_that_mean_something_else_are_refused(folder, data, said):
    (folder / "list.csv").write_bytes(data)
    with pytest.raises(UsageError, match=said):
        read_metadata(folder / "list.csv")


def test_a_file_name_cannot_hold_a_nul(folder):
    (folder / "list.jsonl").write_text('{"file_name": "a\\u0000.png"}\n')
    with pytest.raises(UsageError, match="line 1: the file name holds a NUL"):
        read_metadata(folder / "list.jsonl")
