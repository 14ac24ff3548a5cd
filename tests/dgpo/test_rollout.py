"""Rollouts by merged weights: the same images within rounding, where they may be."""

from concurrent.futures import Future

import pytest
import torch

from dgpo.algorithms.algorithm import Needs
from dgpo.parallel import Ranks
from dgpo.prompts import PromptStream
from dgpo.rollout import LOST, Rollout, choose_merged
from rewards.errors import UsageError
from rewards.prompt import Prompt
from tests.dgpo.training import stir

ON_POLICY, OFF_POLICY = Needs(), Needs(trajectory=True, sampler="sde")


def submit(images, prompts):
    return Future()


def draw(policy, config):
    stream = PromptStream([Prompt("a red sign"), Prompt("a blue sign")], 0)
    rollout = Rollout(policy, config, stream, submit, Ranks(cpu=True), needs=ON_POLICY)
    return rollout.draw(0)


@pytest.mark.parametrize("merge", ["auto", "always"])
def test_merged_rollouts_are_the_same_within_rounding(make_policy, merge):
    policy, config = make_policy({"rollout.merge": merge})
    stir(policy, 0.05)
    merged = draw(policy, config)
    never = draw(policy, config.model_copy(update={"rollout": config.rollout.model_copy(update={"merge": "never"})}))
    assert (merged.merged, never.merged) == (True, False)
    torch.testing.assert_close(merged.batch.x0_BCHW, never.batch.x0_BCHW, rtol=1e-4, atol=1e-4)
    assert not torch.equal(merged.batch.x0_BCHW, never.batch.x0_BCHW)


def test_in_bf16_they_are_merged_once_rounding_leaves_what_adapters_add(make_policy):
    policy, config = make_policy({"training.dtype": "bf16"})
    stir(policy, 1e-5)
    assert policy.merge("current").lost.item() > LOST
    assert choose_merged(policy, config, ON_POLICY, "current") is None
    stir(policy, 0.5)
    assert policy.merge("current").lost.item() < LOST
    assert choose_merged(policy, config, ON_POLICY, "current") is not None


@pytest.mark.parametrize("settings", [{"rollout.merge": "never"}, {"training.method": "full"}])
def test_nothing_is_merged_where_nothing_can_be_or_shall_be(make_policy, settings):
    policy, config = make_policy(settings)
    assert choose_merged(policy, config, ON_POLICY, "current") is None


def test_what_learns_from_the_steps_of_its_rollout_draws_with_adapters(make_policy):
    policy, config = make_policy()
    assert choose_merged(policy, config, ON_POLICY, "reference") is None
    assert choose_merged(policy, config, OFF_POLICY, "current") is None
    policy, config = make_policy({"rollout.merge": "always"})
    with pytest.raises(UsageError, match=r"rollout\.merge=always, and these adapters cannot be merged"):
        choose_merged(policy, config, OFF_POLICY, "current")
