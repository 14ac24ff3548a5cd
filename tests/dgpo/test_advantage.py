import math

import pytest
import torch

from dgpo.advantage import dead_groups, standardise

NAN = math.nan


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_group_deviation_by_hand():
    # mean 2.5, deviations -1.5 -0.5 0.5 1.5, population variance 5/4
    unit = math.sqrt(1.25)
    close(
        standardise(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), epsilon=0.0),
        [[-1.5 / unit, -0.5 / unit, 0.5 / unit, 1.5 / unit]],
    )


def test_batch_deviation_is_about_the_common_mean():
    # all scores 0 1 10 11: mean 5.5, squares 30.25 20.25 20.25 30.25, deviation sqrt(25.25); group means 0.5 and 10.5
    a = 0.5 / math.sqrt(25.25)
    close(standardise(torch.tensor([[0.0, 1.0], [10.0, 11.0]]), std="batch", epsilon=0.0), [[-a, a], [-a, a]])


def test_epsilon_is_added_to_the_deviation():
    close(standardise(torch.tensor([[0.0, 1.0]]), epsilon=0.5), [[-0.5, 0.5]])


@pytest.mark.parametrize(("clamp", "highest"), [(5.0, 5.0), (2.0, 2.0), (None, math.sqrt(99))])
def test_clamp(clamp, highest):
    # one 1 among 99 zeros: mean 0.01, deviation sqrt(0.01 * 0.99); it stands 0.99 / sqrt(0.0099) = sqrt(99) above
    scores = torch.zeros(1, 100)
    scores[0, 7] = 1.0
    advantage = standardise(scores, epsilon=0.0, clamp=clamp)
    assert advantage.max().item() == pytest.approx(highest)
    assert advantage.min().item() == pytest.approx(-0.01 / math.sqrt(0.0099))


def test_failed_image_has_none_and_counts_in_no_mean():
    close(standardise(torch.tensor([[0.0, NAN, 1.0]]), epsilon=0.0), [[-1.0, 0.0, 1.0]])
    # batch: scores 0 1 4 6, mean 2.75, squares 7.5625 3.0625 1.5625 10.5625 = 22.75
    unit = math.sqrt(22.75 / 4)
    scores = torch.tensor([[0.0, NAN, 1.0], [4.0, 6.0, NAN]])
    expected = [[-0.5 / unit, 0.0, 0.5 / unit], [-1.0 / unit, 1.0 / unit, 0.0]]
    close(standardise(scores, std="batch", epsilon=0.0), expected)


@pytest.mark.parametrize("std", ["group", "batch"])
def test_dead_groups_teach_nothing(std):
    scores = torch.tensor([[0.3, 0.3, 0.3], [NAN, 2.0, NAN], [NAN, NAN, NAN], [0.2, 0.2, NAN], [0.0, 1.0, NAN]])
    assert dead_groups(scores).tolist() == [True, True, True, True, False]
    advantage = standardise(scores, std=std, epsilon=0.0)
    assert not advantage[:4].any()
    assert advantage[4, 0] < 0 < advantage[4, 1]
    assert advantage[4, 2] == 0


def test_everything_failed_is_zeros_not_nan():
    assert not standardise(torch.full((2, 3), NAN), std="batch").any()


def test_equal_scores_whose_mean_is_rounded_are_dead():
    """Three times 0.1 has a mean beside 0.1; divided by a deviation of 1e-17 that would be an advantage of 1."""
    scores = torch.full((1, 3), 0.1, dtype=torch.float64)
    assert not standardise(scores, epsilon=0.0).any()
