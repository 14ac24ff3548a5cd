import math

import numpy as np
import pytest

from rewards.score import Score


def test_a_failed_score_has_no_value_and_says_why():
    score = Score.failed("engine died", "half a word")
    assert (score.ok, score.value, score.reason, score.detail) == (False, None, "engine died", "half a word")
    assert Score(0.0).ok


@pytest.mark.parametrize("fields", [(None,), (None, "detail"), (0.5, "detail", "reason")])
def test_value_and_reason_exclude_each_other(fields):
    with pytest.raises(ValueError, match="either a value or the reason"):
        Score(*fields)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, float(np.float32("nan"))])
def test_checked_fails_what_is_not_finite(value):
    score = Score(value, "seen").checked()
    assert score.value is None
    assert score.detail == "seen"
    assert "not a finite number" in score.reason


def test_checked_makes_a_plain_float():
    score = Score(np.float32(0.5), "seen").checked()  # pyright: ignore[reportArgumentType]
    assert type(score.value) is float
    assert score == Score(0.5, "seen")
    failed = Score.failed("why")
    assert failed.checked() is failed
