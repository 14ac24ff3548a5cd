import json
from pathlib import Path

import pytest

from rewards.errors import UsageError
from rewards.ocr.text import join_all, join_confident, normalise, quoted_target, similarity, strict_similarity
from rewards.prompt import Prompt

CASES = json.loads((Path(__file__).parents[2] / "golden/ocr/reward_cases.json").read_text(encoding="utf-8"))["cases"]
SCORED = [case for case in CASES if "reward" in case["flow_grpo"] and case["lines"] != "raise"]
REFUSED = [case for case in CASES if "error" in case["flow_grpo"]]


def lines_of(case):
    return [(text, confidence) for text, confidence in case["lines"] or []]


def test_no_recorded_case_is_left_out():
    raising = [case for case in CASES if case["lines"] == "raise"]
    assert (len(CASES), len(SCORED), len(REFUSED), len(raising)) == (56, 50, 5, 1)


@pytest.mark.parametrize("case", SCORED, ids=lambda case: str(case["id"]))
def test_released_rules_give_the_recorded_reward(case):
    target = quoted_target(Prompt(case["prompt"]))
    assert similarity(join_confident(lines_of(case)), target) == pytest.approx(case["flow_grpo"]["reward"], abs=1e-12)


@pytest.mark.parametrize("case", SCORED, ids=lambda case: str(case["id"]))
def test_strict_rule_gives_the_recorded_formula(case):
    target = quoted_target(Prompt(case["prompt"]))
    assert strict_similarity(join_all(lines_of(case)), target) == pytest.approx(case["paper_formula_raw"], abs=1e-12)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case["id"]))
def test_prompts_that_broke_the_released_code_are_refused_by_name(case):
    with pytest.raises(UsageError) as caught:
        quoted_target(Prompt(case["prompt"]))
    assert case["prompt"] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ('says "One" and "Two"', "One"),
        ('an unclosed "One', "One"),
        ('"One" on a 5" plate', "One"),
        ('a sign "4" tall"', "4"),
        ('"two\nlines,\ttab,\xa0no-break,\u3000wide"', "two lines, tab, no-break, wide"),
        ('"  spaced  "', "  spaced  "),
    ],
)
def test_target_is_what_follows_the_first_straight_quote(text, target):
    assert quoted_target(Prompt(text)) == target


def test_only_spaces_between_quotes_are_no_target():
    with pytest.raises(UsageError, match="some text between the quotes"):
        quoted_target(Prompt('a sign "   "'))


def test_an_inch_mark_opens_no_quote():
    with pytest.raises(UsageError, match='an inch mark in this prompt; write 24 inch: a 24" monitor'):
        quoted_target(Prompt('a 24" monitor that shows the word "HELLO"'))


@pytest.mark.parametrize("space", ["\n", "\t", "\xa0", "\u3000", "\u2028"])
def test_a_target_with_any_white_space_can_be_read(space):
    target = quoted_target(Prompt(f'a sign that says "WET{space}FLOOR"'))
    assert similarity("wetfloor", target) == 1.0
    assert strict_similarity("WET FLOOR", target) == 1.0


def test_normalise_takes_ascii_spaces_and_case_only():
    assert normalise(" A b\tC\u00a0D! ") == "ab\tc\u00a0d!"


def test_values_worked_out_by_hand():
    assert similarity("help", "hello") == 0.6  # two edits of five
    assert similarity("H E L L O world", "hello") == 1.0  # extra text is free
    assert similarity("wxyz", "hello") == 0.0
    assert similarity("a much longer text", "hi") == 0.0  # capped, not negative
    assert strict_similarity("HELLO", "hello") == 0.0
    assert strict_similarity("hello world", "hello") == 0.0  # six extra characters of five
    assert strict_similarity("helo", "hello") == pytest.approx(0.8)
