"""The line that stands beside a score: what a program reads of it, and what a person does."""

import pytest

from rewards.geneval.clauses import read_request
from rewards.geneval.detail import Detail, read_detail, write_detail
from rewards.geneval.detections import Found
from rewards.geneval.rules import Verdict
from rewards.prompt import Prompt

REQUEST = read_request(Prompt("x", {"tag": "color_attr", "include": [{"class": "cup", "count": 1, "color": "red"}]}))


def one(score):
    return Found((0.0, 0.0, 9.0, 9.0), score)


def test_asked_objects_come_first_with_the_colours_that_were_looked_at():
    detected = {"dog": [one(0.98)], "cup": [one(0.97), one(0.4)], "tie": [one(0.99)]}
    seen = {id(detected["cup"][0]): "red"}
    line = write_detail(REQUEST, Verdict(True, 1.0, False, "", ()), detected, lambda it, _: seen.get(id(it)))
    assert line == "correct=yes strict=no task=color_attr | found red cup 0.97, cup 0.40, tie 0.99, dog 0.98"
    assert read_detail(line) == Detail(correct=True, strict=False, task="color_attr")


def test_reasons_are_on_the_line_and_long_lists_are_cut():
    detected = {"cup": [one(0.9)] * 16}
    verdict = Verdict(False, 0.0, False, "one\ntwo", ())
    line = write_detail(REQUEST, verdict, detected, lambda *_: None)
    assert line.startswith("correct=no strict=no task=color_attr | one; two | found cup 0.90, ")
    assert line.endswith("cup 0.90 and 6 more")
    assert line.count("cup 0.90") == 10
    assert write_detail(REQUEST, verdict, {}, lambda *_: None).endswith(" | found nothing")
    assert "\n" not in line


@pytest.mark.parametrize("text", ["", "HELLO", "correct=maybe strict=no task=x", "strict=no task=x correct=yes"])
def test_other_text_is_no_detail(text):
    assert read_detail(text) is None
