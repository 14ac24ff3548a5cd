import json
from pathlib import Path

import pytest

from rewards.errors import UsageError
from rewards.prompt import Prompt
from rewards.text import join_all, join_confident, normalise, quoted_target, similarity, strict_similarity

CASES = json.loads((Path(__file__).parents[1] / "golden/ocr/reward_cases.json").read_text(encoding="utf-8"))["cases"]
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
        ('a 5" plate with "One"', " plate with "),
        ('"  spaced  "', "  spaced  "),
    ],
)
def test_target_is_what_follows_the_first_straight_quote(text, target):
    assert quoted_target(Prompt(text)) == target


def test_only_spaces_between_quotes_are_no_target():
    with pytest.raises(UsageError, match="some text between the quotes"):
        quoted_target(Prompt('a sign "   "'))


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
