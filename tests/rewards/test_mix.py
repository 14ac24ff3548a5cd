import pytest

from rewards.mix import combine
from rewards.score import Score
from rewards.spec import parse_rewards


def test_sum_weighs_each_part_and_names_them():
    specs = parse_rewards(["ocr=0.8", "imagestats.dark=-0.5"])
    scores = {"ocr@1": [Score(0.5), Score(1.0)], "imagestats.dark@1": [Score(0.2), Score(0.0)]}
    total = combine(scores, specs)
    assert [score.value for score in total] == pytest.approx([0.8 * 0.5 - 0.5 * 0.2, 0.8])
    assert total[0].detail == "ocr@1=0.5; imagestats.dark@1=0.2"


def test_a_failed_part_fails_that_image_only():
    specs = parse_rewards(["ocr", "ocr-strict"])
    scores = {
        "ocr@1": [Score(1.0), Score.failed("engine died"), Score.failed("no pixels")],
        "ocr-strict@1": [Score(0.5), Score(0.5), Score.failed("none")],
    }
    total = combine(scores, specs)
    assert total[0].value == 1.5
    assert total[1] == Score.failed("ocr@1: engine died")
    assert total[2] == Score.failed("ocr@1: no pixels; ocr-strict@1: none")


def test_missing_or_unequal_scores_are_our_own_mistake():
    specs = parse_rewards(["ocr", "ocr-strict"])
    with pytest.raises(KeyError):
        combine({"ocr@1": []}, specs)
    with pytest.raises(ValueError, match="shorter"):
        combine({"ocr@1": [Score(1.0)], "ocr-strict@1": []}, specs)
    with pytest.raises(ValueError, match="no rewards"):
        combine({}, [])
