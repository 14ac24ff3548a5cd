"""Tokens against recorded ones of transformers 4.27 and OpenAI's CLIP, and against open_clip on odd texts."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from rewards.clip.tokens import ClipTokens, clean, find_tokenizer, share_tokens
from rewards.errors import SetupError

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
FOLDER = GOLDEN / "clipscore" / "clip"
PROMPTS = json.loads((GOLDEN / "prompts.json").read_text())
START, END = 49406, 49407
ODD = (
    "“curly” \u2018quotes\u2019 — and…  dashes",
    "salt &amp;amp; pepper &#128512; &eacute;",
    "schÃ¶n â€œmojibakeâ€\x9d",
    "cafe\u0301 CAFÉ ﬁne ² ½ İstanbul ß",
    "tab\tnew\nline\u3000wide\u00a0hard\u200bzero",
    "don't I'LL we've 's 'T 1234 a1b2",
    "日本の夜景 🌃👩‍👩‍👧 नमस्ते مرحبا",
    "!!!??? ...,,, <> {} || __ -- ~~ \\\\ //",
    "e&#769; A&#778;",
    "<b> &amp;amp; &lt;i&gt; e&#769; A&#778; &amp;lt;",  # ftfy leaves entities alone where there is a real <
    "word " * 200,
    " ",
)


@pytest.fixture(scope="module")
def tokens():
    return ClipTokens(FOLDER, 77)


def text_of(ids):
    """Up to the first end, which is all that the tower reads."""
    return ids[: ids.index(END) + 1]


def test_published_tokens_are_those_of_transformers(tokens):
    golden = json.loads((GOLDEN / "clipscore" / "golden.json").read_text())
    assert tokens.published(PROMPTS).tolist() == golden["hf_tokens_max_length"]


def test_openai_tokens_are_those_of_openai(tokens):
    golden = json.loads((GOLDEN / "clipscore" / "golden.json").read_text())
    for ours, theirs in zip(tokens.openai(PROMPTS).tolist(), golden["openai_tokens"], strict=True):
        assert text_of(ours) == text_of(theirs)


def test_openai_tokens_are_those_of_open_clip_on_odd_texts(tokens):
    theirs = pytest.importorskip("open_clip").tokenizer.SimpleTokenizer(context_length=77)(list(ODD)).tolist()
    for text, ours, reference in zip(ODD, tokens.openai(ODD).tolist(), theirs, strict=True):
        assert text_of(ours) == text_of(reference), text


def test_the_two_differ_where_the_originals_do(tokens):
    same = [
        text_of(a) == text_of(b)
        for a, b in zip(tokens.published(PROMPTS).tolist(), tokens.openai(PROMPTS).tolist(), strict=True)
    ]
    assert same == [True, True, True, False, True, False, True, True]


def test_a_long_text_loses_its_tail_and_keeps_its_end():
    ids = ClipTokens(FOLDER, 9).published(["a b c d e f g h i j", "a"]).tolist()
    assert ids[0] == [START, *ClipTokens(FOLDER, 77).published(["a b c d e f g"])[0, 1:8].tolist(), END]
    assert ids[1] == [START, ids[0][1], *[END] * 7]


def test_texts_are_cleaned_in_openais_order():
    """Entities are read twice, after ftfy; spaces go last but lower case."""
    assert clean("  A “B”\n&amp;amp;  C ") == 'a "b" & c'


def test_a_tokenizer_json_alone_gives_the_same(tokens, tmp_path):
    tokens._tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert not (tmp_path / "vocab.json").exists()
    alone = ClipTokens(find_tokenizer(tmp_path.iterdir()), 77)
    assert alone.published(PROMPTS).tolist() == tokens.published(PROMPTS).tolist()
    assert alone.openai(PROMPTS).tolist() == tokens.openai(PROMPTS).tolist()


def test_one_folder_has_one_tokenizer(tokens):
    assert share_tokens(FOLDER, 77) is share_tokens(FOLDER, 77)
    assert share_tokens(FOLDER, 77) is not share_tokens(FOLDER, 76)


def test_half_a_tokenizer_is_none(tmp_path):
    """transformers would start from three words and take every word for the end of the text."""
    shutil.copy(FOLDER / "vocab.json", tmp_path)
    with pytest.raises(SetupError, match=r"There is no tokenizer in .*merges\.txt"):
        find_tokenizer(tmp_path.iterdir())


def test_without_ftfy_the_error_says_how_to_get_it(tokens, monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(SetupError, match=r"pip install 'dgpo\[openclip\]'"):
        tokens.openai(["a"])
    tokens.published(["a"])
