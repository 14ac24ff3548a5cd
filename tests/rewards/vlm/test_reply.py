"""Reading of replies: the published way as recorded, ours by hand."""

import json
from pathlib import Path

import pytest

from rewards.vlm.reply import Reply, read_axes, read_final, read_published, shorten

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm" / "unifiedreward" / "parse_cases.json"
CASES = json.loads(GOLDEN.read_text())["cases"]
# Where ours says something else than the published pattern where that one matches.
OUTSIDE = ("Final Score: 10", "Final Score: 5.75")
OUTSIDE_BOTH = ("Final Score: 0.5", "Final Score: 6", "Final Score: -3")
THREE = "Alignment Score (1-5): 4\nCoherence Score (1-5): 3.5\nStyle Score (1-5): 2"


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["text"]))
def test_the_published_way(case):
    score = read_published(Reply(case["text"]))
    assert score.value == case["score"]
    assert score.detail == case["text"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["text"]))
def test_a_reply_without_a_score_from_1_to_5_is_none(case):
    score = read_final(Reply(case["text"]))
    assert score.detail == case["text"]
    if case["matched"] and case["text"] not in OUTSIDE:
        assert score.value == case["score"]
    elif case["text"] in OUTSIDE + OUTSIDE_BOTH:
        assert score.value is None
        assert "not from 1 to 5" in score.reason
    else:
        assert score.value is None
        assert "no 'Final Score: <number>'" in score.reason


def test_there_are_cases_of_each_kind():
    texts = {case["text"] for case in CASES}
    assert len(CASES) == 21
    assert texts.issuperset(OUTSIDE + OUTSIDE_BOTH)


def test_a_reply_that_was_cut_names_the_option():
    assert "max_new_tokens" in read_final(Reply("A red dog (object)", cut=True)).reason
    assert "max_new_tokens" not in read_final(Reply("A red dog (object)")).reason
    assert read_final(Reply("Final Score: 3", cut=True)).value == 3.0


@pytest.mark.parametrize(("axis", "value"), [("alignment", 4.0), ("coherence", 3.5), ("style", 2.0), ("mean", 9.5 / 3)])
def test_three_scores(axis, value):
    assert read_axes(Reply(THREE), axis).value == pytest.approx(value, abs=1e-12)


def test_three_scores_without_the_range_in_words():
    assert read_axes(Reply("Alignment Score: 3.08"), "alignment").value == 3.08


def test_a_mean_needs_all_three():
    score = read_axes(Reply(THREE.rpartition("\n")[0]), "mean")
    assert "Style Score" in score.reason
    assert read_axes(Reply(THREE.rpartition("\n")[0]), "coherence").value == 3.5


def test_an_axis_outside_is_none():
    assert "not from 1 to 5" in read_axes(Reply("Style Score (1-5): 7"), "style").reason


def test_long_replies_keep_both_ends():
    text = "start" + "x" * 5000 + "Final Score: 2"
    kept = read_final(Reply(text)).detail
    assert kept.startswith("start")
    assert kept.endswith("Final Score: 2")
    assert len(kept) < 2100
    assert shorten("short") == "short"
