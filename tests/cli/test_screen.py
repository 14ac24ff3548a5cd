"""Tables are as wide as they must be, JSON stays JSON."""

import json
import math
from pathlib import Path

from cli.screen import print_json, print_table, render_table, say
from rewards.numbers import format_number


def test_table_columns_are_as_wide_as_their_widest_cell():
    assert render_table(("a", "bb"), [("long", 1), ("x", 222)]) == "a     bb\nlong  1\nx     222"


def test_table_without_rows_is_its_head():
    assert render_table(("a", "b"), []) == "a  b"


def test_tables_have_the_width_of_the_terminal_and_are_whole_elsewhere(capsys, monkeypatch):
    row = ("x", "words " * 20)
    print_table(("name", "text"), [row])
    assert len(capsys.readouterr().out.splitlines()[1]) == len("name  ") + len("words " * 20) - 1
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("name", "text"), [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).split() == ["name", "text", "x", *["words"] * 20]


def test_json_has_null_for_what_is_no_number(capsys):
    print_json({"a": math.nan, "b": [math.inf, 1.5], 3: ("é", None), "p": Path("x/y")})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "3": ["é", None], "p": "x/y"}
    assert "é" in text


def test_sentences_go_to_stderr(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "dgpo: hello\n")


def test_sentences_show_no_secret_of_an_address(capsys):
    say("--set a=[http://me:secret@gpu1/x?key=secret]: http:/secret@h/x 'https://h/a@1?secret' (https://h/b#c)")
    assert capsys.readouterr().err == (
        "dgpo: --set a=[http://gpu1/x?...]: http:/h/x 'https://h/a@1?...' (https://h/b#c)\n"
    )


def test_numbers():
    assert [format_number(x) for x in (0.12345, -2.0, 123.456, None, math.nan)] == [
        "0.123",
        "-2.000",
        "123.5",
        "-",
        "-",
    ]
