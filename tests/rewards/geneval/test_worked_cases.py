"""The cases by hand come out right, and one that is wrong is named."""

from dataclasses import replace

import pytest

from rewards.errors import SetupError
from rewards.geneval.worked_cases import CASES, work_through


def test_cases_by_hand_come_out_right():
    assert work_through() == f"{len(CASES)} cases by hand come out right"


@pytest.mark.parametrize("change", [{"correct": False}, {"strict": False}, {"graded": 0.5}, {"fixed": 0.0}])
def test_each_verdict_is_compared(change):
    with pytest.raises(SetupError, match="rules are broken here: one dog, found"):
        work_through([replace(CASES[0], **change)])
