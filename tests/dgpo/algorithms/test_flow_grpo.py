"""Flow-GRPO's objective is the published codes', ratio, clip, divergence and guard."""

import pytest
import torch

from dgpo.algorithms.clipped_ratio import clipped_objective, guarded_log_ratio, is_clipped
from dgpo.algorithms.flow_grpo import mean_divergence
from dgpo.stochastic import SDE, STEPS, Interval
from tests.dgpo.algorithms.recorded import agree, cases


@pytest.mark.parametrize("case", cases("flow_grpo_loss"))
def test_the_loss_is_the_published_codes(case):
    step = STEPS[case.word("kind")](case.number("noise_level"))
    at = Interval(case.number("sigma"), case.number("sigma_next"), case.number("sigma_second"))
    v = case["v"].requires_grad_()
    mean, reference = step.mean(case["x"], v, at), step.mean(case["x"], case["v_ref"], at)
    log_p = step.log_probability(case["x_next"], mean, at)
    agree(log_p.detach(), case.wide("log_prob"), "log_prob")
    ratio, advantage = (log_p - case["log_prob_old"]).exp(), case["advantage"].clamp(-5, 5)
    agree(ratio.detach(), case.wide("ratio"), "ratio")
    assert torch.equal(is_clipped(ratio, advantage, case.number("clip")), case.flags("clipped"))
    policy = clipped_objective(ratio, advantage, case.number("clip")).mean()
    agree(policy.detach(), case.wide("policy_loss"), "policy_loss")
    loss = policy
    if case.number("kl"):
        kl = mean_divergence(mean, reference, step, at).mean()
        agree(kl.detach(), case.wide("kl_loss"), "kl_loss")
        loss = policy + case.number("kl") * kl
    agree(loss.detach(), case.wide("loss"), "loss")
    loss.backward()
    assert v.grad is not None
    agree(v.grad, case.wide("grad_v"), "grad_v")


@pytest.mark.parametrize("over", ["batch", "image"])
@pytest.mark.parametrize("case", cases("guard"))
def test_the_guard_is_the_published_codes(case, over):
    step = SDE(case.number("noise_level"))
    at = Interval(case.number("sigma"), case.number("sigma_next"), case.number("sigma_second"))
    v, named = case["v"].requires_grad_(), "image_" if over == "image" else ""
    mean = step.mean(case["x"], v, at)
    log_ratio = step.log_probability(case["x_next"], mean, at) - case["log_prob_old"]
    ratio = guarded_log_ratio(log_ratio, mean, case["mean_old"], step.deviation(at), over).exp()
    agree(ratio.detach(), case.wide(f"{named}ratio"), "ratio")
    advantage = case["advantage"].clamp(-5, 5)
    loss = clipped_objective(ratio, advantage, case.number("clip")).mean() / (at.sigma - at.sigma_next)
    agree(loss.detach(), case.wide(f"{named}loss"), "loss")
    loss.backward()
    assert v.grad is not None
    agree(v.grad, case.wide(f"{named}grad_v"), "grad_v")
    if over == "batch":
        assert torch.equal(is_clipped(ratio.detach(), advantage, case.number("clip")), case.flags("clipped"))


def test_the_divergence_by_hand():
    """Means 3 apart in one of four places, u = s = 1 at sigma 1/2 with noise 1."""
    mean = torch.tensor([[3.0, 0.0, 0.0, 0.0]])
    value = mean_divergence(mean, torch.zeros(1, 4), SDE(1.0), Interval(0.5, 0.25, 0.9))
    assert value.tolist() == [9 / 4 / 2]
