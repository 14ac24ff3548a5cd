"""Tables in terminals of every width."""

import pytest

from cli.layout import lay_out

TABLE = [
    ["reward", "base", "mean", "what it measures"],
    ["ocr@1", "tiny", "0.562", "how much of the text in quotes can be read in the image"],
    ["aesthetic@1", "tiny", "5.310", "how people like its look"],
]


def test_without_a_width_nothing_is_cut():
    lines = lay_out(TABLE, None).splitlines()
    assert lines[1] == "ocr@1        tiny  0.562  how much of the text in quotes can be read in the image"
    assert lay_out(TABLE, 200, ["base"]) == lay_out(TABLE, None)


@pytest.mark.parametrize("width", [10, 20, 30, 40, 50, 60, 79, 80, 81])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_lost(width):
    text = lay_out(TABLE, width, ["base", "mean"])
    assert max(map(len, text.splitlines())) <= width
    words = "".join(text.split())
    for cell in (*(word for line in TABLE for word in line[-1].split()), "ocr@1", "aesthetic@1"):
        assert cell in words


def test_the_last_column_goes_on_under_itself():
    assert lay_out(TABLE, 60).splitlines()[1:4] == [
        "ocr@1        tiny  0.562  how much of the text in quotes can",
        "                          be read in the image",
        "aesthetic@1  tiny  5.310  how people like its look",
    ]


def test_columns_that_say_one_thing_are_left_out_first_and_told():
    lines = lay_out(TABLE, 54, ["mean", "base"]).splitlines()
    assert lines[0] == "reward       mean   what it measures"
    assert " ".join(lines[-2:]) == "not shown at this width: base (tiny); a pipe (| cat) or --json has all"
    assert "base (tiny), mean" in " ".join(lay_out(TABLE, 48, ["mean", "base"]).splitlines()[-3:])


def test_where_nothing_fits_each_row_is_a_block():
    assert lay_out(TABLE, 30).splitlines()[:5] == [
        "reward: ocr@1",
        "base: tiny",
        "mean: 0.562",
        "what it measures: how much of",
        "  the text in quotes can be",
    ]


def test_a_table_without_rows():
    assert lay_out([["a", "b"]], 80) == "a  b"
