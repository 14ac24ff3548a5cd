"""Objectives of single images: the published codes' numbers, and values worked out by hand."""

import pytest
import torch

from dgpo.algorithms.clipped_ratio import clipped_objective, is_clipped
from dgpo.algorithms.matching import Weighting, contrast, drift, elbo_scale, likelihood, optimality, scaled_error
from tests.dgpo.algorithms.recorded import agree, cases

WEIGHTINGS: dict[str, Weighting] = {"Uniform": "uniform", "t": "sigma", "huber": "huber", "ghuber": "ghuber"}


@pytest.mark.parametrize("case", cases("nft_loss"))
def test_nft_is_the_published_codes(case):
    sigma, v = case["time"] / 1000, case["v"].requires_grad_()
    wide = sigma.view(-1, 1, 1, 1)
    x = (1 - wide) * case["x0"] + wide * case["noise"]
    agree(x, case.wide("x_t"), "x_t")
    advantage = case["advantage"]
    if case.word("adv_mode") == "positive_only":
        advantage = advantage.clamp(0, 5)
    elif case.word("adv_mode") == "binary":
        advantage = advantage.sign()
    good = optimality(advantage, 5.0)
    agree(good, case.wide("r"), "r")
    beta = case.number("beta")
    per_image = contrast(v, case["v_old"], x, case["x0"], sigma, good, beta)
    agree(per_image.detach(), case.wide("loss_image"), "loss_image")
    kl = drift(v, case["v_ref"]).mean()
    agree(kl.detach(), case.wide("kl"), "kl")
    loss = 5 * per_image.mean() + case.number("kl_weight") * kl
    agree(loss.detach(), case.wide("loss"), "loss")
    loss.backward()
    assert v.grad is not None
    gradient, theirs = v.grad, case.wide("grad_v")
    if case.name == "floor":  # what is predicted exactly has a gradient of rounding over the divisor's floor
        gradient, theirs = gradient.clone(), theirs.clone()
        gradient[2] = theirs[2] = 0
    agree(gradient, theirs, "grad_v")


@pytest.mark.parametrize("case", cases("awm_loss"))
def test_awm_is_the_published_codes(case):
    v = case["v"].requires_grad_()
    sigma = case["sigma"]
    error = (v - (case["noise"] - case["x0"])).square().flatten(2).mean(dim=2)
    log_p = likelihood(error, sigma[:, None], WEIGHTINGS[case.word("weighting")], case.number("power"))
    agree(log_p.detach(), case.wide("log_prob"), "log_prob")
    advantage = case["advantage"].clamp(-5, 5) / 5
    old = log_p.detach() if bool(case.number("on_policy")) else case["log_prob_old"]
    if case.word("ratio_of") == "mean_of_times":
        log_p, old = log_p.mean(dim=0, keepdim=True), old.mean(dim=0, keepdim=True)
    ratio = (log_p - old).exp()
    wide = advantage.expand_as(ratio)
    policy = clipped_objective(ratio, wide, case.number("clip")).mean()
    agree(policy.detach(), case.wide("policy_loss"), "policy_loss")
    weigh = elbo_scale if case.word("kl_weighting") == "ELBO" else lambda sigma: 1.0
    scale = torch.tensor([weigh(one) for one in sigma.tolist()], dtype=torch.float64)
    kls = []
    for name in ("base", "fast"):
        per_time = (v - case[f"v_{name}"]).square().flatten(1).mean(dim=1)
        kls.append((per_time / scale).mean())
        agree(kls[-1].detach(), case.wide(f"kl_{name}"), f"kl_{name}")
    loss = policy + case.number("base_weight") * kls[0] + case.number("fast_weight") * kls[1]
    agree(loss.detach(), case.wide("loss"), "loss")
    loss.backward()
    assert v.grad is not None
    agree(v.grad, case.wide("grad_v"), "grad_v")


def test_the_contrast_by_hand():
    """At sigma 1/2 with x 1 and x0 0: v = 1 predicts 1/2, off by 1/2; its mirror about v_old = 0 is off by 3/2."""
    one = torch.ones(1, 1)
    values = contrast(one, torch.zeros(1, 1), one, torch.zeros(1, 1), torch.tensor([0.5]), torch.tensor([0.75]), 1.0)
    # errors d^2 / |d| = |d|
    assert values.item() == pytest.approx(0.75 * 0.5 + 0.25 * 1.5)
    assert optimality(torch.tensor([-7.0, 0.0, 2.5, 9.0]), 5.0).tolist() == [0, 0.5, 0.75, 1]


def test_an_exact_prediction_has_no_error_and_a_finite_gradient():
    v = torch.zeros(1, 4, requires_grad=True)
    x = torch.ones(1, 4)
    scaled_error(v, x, x, torch.tensor([0.3])).sum().backward()
    assert v.grad is not None
    assert v.grad.tolist() == [[0.0] * 4]


def test_likelihoods_by_hand():
    error, sigma = torch.tensor([0.0625], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    assert likelihood(error, sigma, "uniform", 1).item() == -0.0625
    assert likelihood(error, sigma, "sigma", 1).item() == -0.03125
    assert likelihood(error, sigma, "huber", 1).item() == pytest.approx(-(0.25 - 1e-5) / 2, rel=1e-6)
    # the fourth root of 1/16 is 1/2, of 1e-10 is 0.00316
    assert likelihood(error, sigma, "ghuber", 0.25).item() == pytest.approx(-(0.5 - 10**-2.5) * 0.5 / 0.25, rel=1e-6)


def test_the_pessimistic_objective_by_hand():
    ratio, advantage = torch.tensor([1.5, 0.5, 1.5, 0.5]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert clipped_objective(ratio, advantage, 0.2).tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    assert is_clipped(ratio, advantage, 0.2).tolist() == [True, False, False, True]
