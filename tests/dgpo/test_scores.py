import math
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from dgpo.parallel import Ranks
from dgpo.scores import collect_scores, describe_parts, describe_scores, scoring_seconds
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import Scored
from rewards.score import Score

SPECS = parse_rewards(["imagestats.edges", "imagestats.dark"])
SIZES: dict[str, Any] = {"groups": 2, "group_size": 2}


def batch(edges, dark):
    future: Future[Scored] = Future()
    future.set_result(Scored({"imagestats.edges@1": edges, "imagestats.dark@1": dark}, {}))
    return future


def test_every_image_is_put_where_it_belongs():
    futures = [
        batch([Score(0.2), Score(0.0)], [Score(0.6), Score(0.4)]),
        batch([Score(0.1), Score.failed("asleep")], [Score(0.5), Score.failed("too dark")]),
    ]
    parts_RKG, failures = collect_scores(futures, torch.tensor([2, 0, 1, 3]), SPECS, Ranks(cpu=True), **SIZES)
    assert parts_RKG[0].nan_to_num(-1).tolist() == [[0.0, 0.1], [0.2, -1]]
    assert parts_RKG[1].nan_to_num(-1).tolist() == [[0.4, 0.5], [0.6, -1]]
    assert failures == ["imagestats.edges@1: asleep; imagestats.dark@1: too dark"]


def test_a_reward_that_can_go_on_no_more_is_an_error():
    broken = Future()
    broken.set_exception(SetupError("other weights"))
    with pytest.raises(SetupError, match="other weights"):
        collect_scores([broken], torch.tensor([0]), SPECS, Ranks(cpu=True), **SIZES)


def test_a_bug_is_a_bug():
    broken = Future()
    broken.set_exception(TypeError("no such argument"))
    with pytest.raises(TypeError):
        collect_scores([broken], torch.tensor([0]), SPECS, Ranks(cpu=True), **SIZES)


def test_scores_in_figures():
    """Deviations in the groups: 1, and none."""
    scores_KG = torch.tensor([[1.0, 3.0], [math.nan, 5.0]], dtype=torch.float64)
    assert describe_scores(scores_KG, scores_KG) == {
        "reward": pytest.approx(3.0),
        "spread": pytest.approx(math.sqrt(2 / 3)),
        "dead_groups": 0.5,
        "failed": 1,
    }


def test_a_part_without_any_score_is_left_out():
    parts_RKG = torch.tensor([[[1.0, 3.0]], [[math.nan, math.nan]]], dtype=torch.float64)
    assert describe_parts(["a", "b"], parts_RKG) == {"rewards": {"a": 2.0}, "spreads": {"a": 1.0}}


def test_seconds_per_image_are_the_mean_over_batches_by_their_size():
    """3 images at 0.1 s and 1 at 0.5 s."""
    futures = [Future(), Future()]
    for future, (count, seconds) in zip(futures, ((3, 0.1), (1, 0.5)), strict=True):
        future.set_result(Scored({"a@1": [Score(0.0)] * count}, {"a@1": seconds}))
    assert scoring_seconds(futures) == {"a@1": pytest.approx(0.2)}
    assert scoring_seconds([]) == {}
