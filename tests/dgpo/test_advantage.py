import json
import math

import pytest
import torch

from dgpo.advantage import dead_groups, mix, mix_rewards, spread, standardise, whiten
from dgpo.sections import Advantage
from tests.dgpo.algorithms.recorded import GOLDEN

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


class TestMix:
    def test_weighted_sum_by_hand(self):
        parts = torch.tensor([[[1.0, 2.0], [0.0, 4.0]], [[10.0, 10.0], [30.0, 20.0]]])
        # 0.5 * 1 - 0.25 * 10 = -2, 0.5 * 2 - 2.5 = -1.5; 0 - 7.5, 2 - 5
        close(mix(parts, torch.tensor([0.5, -0.25])), [[-2.0, -1.5], [-7.5, -3.0]])

    def test_per_reward_by_hand(self):
        # group 1: (0, 2) and (5, 15) stand at -1, 1 each: -0.5 - 0.25, 0.75. Group 2: the first part is flat and adds 0
        parts = torch.tensor([[[0.0, 2.0], [3.0, 3.0]], [[5.0, 15.0], [7.0, 1.0]]])
        mixed = mix(parts, torch.tensor([0.5, 0.25]), per_reward=True, epsilon=0.0)
        close(mixed, [[-0.75, 0.75], [0.25, -0.25]])

    def test_per_reward_does_not_care_for_unit_or_offset(self):
        parts = torch.rand(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        other = torch.stack([parts[0] * 26 + 20, parts[1]])
        weights = torch.tensor([0.7, 0.3])
        settings = {"per_reward": True, "epsilon": 0.0}
        torch.testing.assert_close(mix(parts, weights, **settings), mix(other, weights, **settings))
        assert not torch.allclose(mix(parts, weights), mix(other, weights))

    def test_epsilon_is_added_to_each_deviation(self):
        # deviations 1 and 3 grow to 2 and 4: -1/2 - 3/4
        parts = torch.tensor([[[0.0, 2.0]], [[0.0, 6.0]]])
        close(mix(parts, torch.tensor([1.0, 1.0]), per_reward=True, epsilon=1.0), [[-1.25, 1.25]])

    @pytest.mark.parametrize("per_reward", [False, True])
    def test_failed_part_fails_the_image_and_leaves_the_others_means(self, per_reward):
        """The second image has no part 2; its part 1, far off, must not move the standardised parts of the others."""
        parts = torch.tensor([[[0.0, 1e6, 2.0]], [[5.0, NAN, 15.0]]])
        mixed = mix(parts, torch.tensor([0.5, 0.25]), per_reward=per_reward, epsilon=0.0)
        assert mixed.isnan().tolist() == [[False, True, False]]
        close(mixed[:, [0, 2]], [[-0.75, 0.75]] if per_reward else [[1.25, 4.75]])

    def test_group_of_failures_and_group_of_one_are_dead(self):
        parts = torch.tensor([[[NAN, NAN, NAN], [1.0, NAN, 2.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, NAN]]])
        mixed = mix(parts, torch.tensor([1.0, 1.0]), per_reward=True)
        assert mixed.isnan().tolist() == [[True, True, True], [False, True, True]]
        assert dead_groups(mixed).tolist() == [True, True]

    def test_equal_parts_have_equal_sums_to_the_last_bit(self):
        parts = torch.tensor([0.1, 0.7, 1 / 3], dtype=torch.float64)[:, None, None].expand(3, 2, 37)
        mixed = mix(parts, torch.tensor([0.8, 0.2, 1 / 7], dtype=torch.float64))
        assert dead_groups(mixed).all()

    def test_one_reward_of_weight_one_is_itself(self):
        parts = torch.tensor([[[0.1, NAN, 0.7]]], dtype=torch.float64)
        torch.testing.assert_close(mix(parts, torch.ones(1)), parts[0], rtol=0, atol=0, equal_nan=True)


def test_spread_is_within_groups():
    # deviations from the group means: 1 1, 2 2; failed scores count in neither
    scores = torch.tensor([[0.0, 2.0, NAN], [100.0, NAN, 104.0]])
    assert spread(scores).item() == pytest.approx(math.sqrt(2.5))


GDPO = json.loads((GOLDEN / "gdpo.json").read_text())["cases"]


@pytest.mark.parametrize("case", GDPO, ids=lambda case: case["name"])
def test_gdpo_is_the_published_code(case):
    """A failed score counts as 0 there, and so it is given here; ours is masked (a test below)."""
    rewards = torch.tensor(case["rewards"], dtype=torch.float64).nan_to_num(0)
    parts_RKG = rewards.T.reshape(rewards.shape[1], -1, case["group_size"])
    settings = Advantage(gdpo=True, clamp=None)
    _, learned = mix_rewards(parts_RKG, [1.0] * len(parts_RKG), case["weights"], settings)
    torch.testing.assert_close(
        learned.flatten(), torch.tensor(case["gdpo_sum_fp32"], dtype=torch.float64), rtol=0, atol=1e-5
    )
    advantage = whiten(learned, clamp=None)
    expected = torch.tensor(case["gdpo_f64"], dtype=torch.float64)
    torch.testing.assert_close(advantage.flatten(), expected, rtol=0, atol=1e-12)


def test_gdpo_by_hand():
    """Two images: z = (-1, 1) / sqrt(2) by the sample deviation, whatever the scale; a constant reward adds 0."""
    parts = torch.tensor([[[0.0, 1.0]], [[50.0, 30.0]], [[7.0, 7.0]]], dtype=torch.float64)
    settings = Advantage(gdpo=True, epsilon=0.0, clamp=None)
    _, learned = mix_rewards(parts, [1.0] * 3, [3.0, 1.0, 100.0], settings)
    assert learned.flatten().tolist() == pytest.approx([-(3 - 1) / 2**0.5, (3 - 1) / 2**0.5])
    assert whiten(learned, epsilon=0.0, clamp=None).flatten().tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])


def test_rewards_that_conflict_are_weighed_and_not_summed_by_their_scales():
    """One reward in thousands against one in hundredths, of opposite wishes: the weights decide, not the units."""
    order = torch.arange(4, dtype=torch.float64)
    parts = torch.stack([order * 0.01, -order * 1000]).reshape(2, 1, 4)
    best = {}
    for name, settings in (
        ("sum", Advantage()), ("per_reward", Advantage(per_reward=True)), ("gdpo", Advantage(gdpo=True))
    ):  # fmt: skip
        _, learned = mix_rewards(parts, [1.0, 1.0], [0.7, 0.3], settings)
        best[name] = int(learned.argmax())
    assert best == {"sum": 0, "per_reward": 3, "gdpo": 3}


def test_gdpo_masks_what_failed_and_leaves_dead_groups_alone():
    nan = float("nan")
    parts = torch.tensor([[[0.1, 0.5, nan], [0.4, 0.4, 0.4]], [[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]], dtype=torch.float64)
    _, learned = mix_rewards(parts, [1.0, 1.0], [1.0, 1.0], Advantage(gdpo=True))
    assert learned[0].isnan().tolist() == [False, False, True]
    assert learned[1].tolist() == [0, 0, 0]
    advantage = whiten(learned)
    assert advantage[0, 2] == 0
    assert advantage[1].tolist() == [0, 0, 0]
    assert advantage[0, 0].item() == pytest.approx(-advantage[0, 1].item())
    assert advantage[0, 1] > 0
