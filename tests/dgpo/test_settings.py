"""Settings come out of a text as they look, and go into one so that they come back."""

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from dgpo.settings import dump_settings, parse_setting, read_settings
from rewards.errors import UsageError


@pytest.fixture
def read(tmp_path):
    def from_text(text):
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_settings(path)

    return from_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("1_000", 1000),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e-4", 1e-4),
        ("2.5E+3", 2500.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("[ocr, 'a: b', 3]", ["ocr", "a: b", 3]),
        ("{a: 1, b: {c: x}}", {"a": 1, "b": {"c": "x"}}),
        ("'3'", "3"),
        # Numbers, truth and dates of YAML 1.1 that nobody means.
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("0b1", "0b1"),
        ("yes", "yes"),
        ("off", "off"),
        ("2026-01-02", "2026-01-02"),
        ("1__", 1),
    ],
)
def test_value_is_what_it_looks_like(text, value):
    assert parse_setting(f"a.b={text}") == ("a.b", value)


def test_not_a_number_is_one():
    assert math.isnan(parse_setting("a=.nan")[1])


def test_lines_are_known_by_dotted_name(read):
    values, lines = read("# a comment\nsteps: 3\nsampling:\n  steps: 4\n  guidance: 2\n")
    assert values == {"steps": 3, "sampling": {"steps": 4, "guidance": 2}}
    assert {name: lines[name] for name in ("steps", "sampling.steps", "sampling.guidance")} == {
        "steps": 2,
        "sampling.steps": 4,
        "sampling.guidance": 5,
    }


def test_empty_file_sets_nothing_and_a_mark_of_utf8_is_no_text(read):
    assert read("# nothing\n")[0] == {}
    assert read(b"\xef\xbb\xbfsteps: 3\n")[0] == {"steps": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: 1\nseed: 2\nsteps: 3\n", r'"steps" is set twice \(line 3, column 1\)'),
        ("a: &x [1]\nb: *x\n", r"anchors and aliases are not taken here \(line 1"),
        ("a: *x\n", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", r"tags are not taken here \(line 1"),
        ("a: !!int x\n", "tags are not taken"),
        ("? [a]\n: 1\n", "a name is expected here"),
        ("a: [1", "not valid YAML.*line"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("- a\n", "`name: value` lines"),
        ("just text", "`name: value` lines"),
        ("[" * 20_000, "nested too deep"),
        ("{a: " * 20_000, "nested too deep"),
        (f"a: {'9' * 5000}", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
        ("model: é".encode("cp1252"), r"mine\.yaml is not UTF-8 text"),
        ("model: x".encode("utf-16"), "is not UTF-8 text"),
        (bytes(range(256)), "is not UTF-8 text"),
        (b"#" * 1_000_001, "larger than any file of settings"),
    ],
)
def test_what_is_no_settings_is_told_in_one_line(read, text, said):
    with pytest.raises(UsageError, match=said) as refused:
        read(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


TEXTS = some.text(max_size=20) | some.sampled_from(["1e5", "010", "yes", "~", "1:30", "=", "<<", "null", "0x1", "#"])
VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | TEXTS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(some.dictionaries(TEXTS, VALUES, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_is_written_comes_back(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    try:
        path.write_text(dump_settings(values))
    except UnicodeEncodeError:
        return  # half of a surrogate pair is no text
    assert read_settings(path)[0] == values


def test_the_text_is_yaml_for_others_too():
    values = {"model": "tiny", "steps": 3, "watch": {"drift": "off"}, "betas": [0.9, 0.999], "rate": 1e-5}
    assert yaml.safe_load(dump_settings(values)) == values
