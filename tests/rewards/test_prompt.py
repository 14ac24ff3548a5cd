import hashlib
import pickle

import pytest

from rewards.errors import UsageError
from rewards.prompt import Prompt, read_prompts


def test_id_is_the_hash_of_canonical_json():
    expected = hashlib.sha256('{"n":2,"prompt":"café","words":["a","b"]}'.encode()).hexdigest()[:16]
    assert Prompt("café", {"words": ["a", "b"], "n": 2}).id == expected
    assert Prompt("x").id == hashlib.sha256(b'{"prompt":"x"}').hexdigest()[:16]


def test_order_of_the_spec_does_not_matter_but_its_content_does():
    one, two = Prompt("x", {"a": 1, "b": 2}), Prompt("x", {"b": 2, "a": 1})
    assert one == two
    assert one.id == two.id
    assert len({one, two, Prompt("x"), Prompt("x", {"a": 1})}) == 3


def test_pickled_prompt_is_the_same_prompt():
    prompt = Prompt('says "HI"', {"a": [1, {"b": None}]})
    _ = prompt.id
    copy = pickle.loads(pickle.dumps(prompt))
    assert copy == prompt
    assert copy.id == prompt.id
    assert hash(copy) == hash(prompt)


def test_spec_may_not_hide_the_text():
    with pytest.raises(UsageError, match="name of the text"):
        Prompt("x", {"prompt": "y"})


def test_text_file_has_a_prompt_a_line(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(b'\xef\xbb\xbfa "ONE"\r\n\r\n  \n"TWO" b\x0bc  \nlast')
    assert [p.text for p in read_prompts(path)] == ['a "ONE"', '"TWO" b\x0bc', "last"]


def test_jsonl_keeps_further_fields_as_spec(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "tag": "colors", "include": [{"class": "dog"}]}\n\n{"prompt": "b"}\n')
    assert read_prompts(path) == [Prompt("a", {"tag": "colors", "include": [{"class": "dog"}]}), Prompt("b")]


def test_csv_uses_the_prompt_column(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('n,prompt\n1,"a sign, ""HI"""\n2,"two\nlines"\n')
    assert [p.text for p in read_prompts(path)] == ['a sign, "HI"', "two\nlines"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"\n \n", "empty.txt: holds no prompt"),
        ("empty.jsonl", b"", "holds no prompt"),
        ("only_header.csv", b"prompt\n", "holds no prompt"),
        ("p.json", b"[]", r'ends in .txt, .jsonl or .csv. Did you mean ".jsonl"\?'),
        ("bad.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "bad.jsonl, line 2: not JSON"),
        ("nan.jsonl", b'{"prompt": "a", "x": NaN}\n', "line 1: not JSON .*NaN"),
        ("list.jsonl", b'\n["a"]\n', "line 2: needs a JSON object"),
        ("blank.jsonl", b'{"prompt": " "}\n', "line 1: needs an object"),
        ("nocolumn.csv", b"text,seed\na,1\n", 'line 1: needs a column "prompt"; it has: text, seed'),
        ("blank.csv", b"prompt,seed\na,1\n,2\n", 'line 3: the column "prompt" is empty'),
        ("latin.txt", b"caf\xe9\n", "not UTF-8 at byte 3"),
    ],
)
def test_files_that_are_not_prompt_files_say_where_and_why(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_prompts(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UsageError, match="there is no such prompt file"):
        read_prompts(tmp_path / "absent.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read_prompts(tmp_path / "folder.txt")
