"""Stochastic steps are those of the published codes, and what they draw has the moments that they say."""

import math

import pytest
import torch

from dgpo.stochastic import CPS, SDE, Interval
from tests.dgpo.algorithms.recorded import agree, cases


def interval(case) -> Interval:
    second = case.number("sigma_second") if "sigma_second" in case.values else math.nan
    return Interval(case.number("sigma"), case.number("sigma_next"), second)


@pytest.mark.parametrize("case", cases("flow_grpo_step"))
def test_the_sde_step_is_flow_grpos(case):
    step, at = SDE(case.number("noise_level")), interval(case)
    mean = step.mean(case["x"], case["v"], at)
    agree(mean, case.wide("mean"), "mean")
    if step.noise_level == 0:
        agree(mean, case.wide("x_next"), "x_next")
        return
    agree(step.rate(at), case.wide("s"), "s")
    agree(mean + step.deviation(at) * case["z"], case.wide("x_next"), "x_next")
    agree(step.log_probability(case["given"], mean, at), case.wide("log_prob_given"), "log_prob_given")
    agree(step.log_probability(mean + step.deviation(at) * case["z"], mean, at), case.wide("log_prob"), "log_prob")


@pytest.mark.parametrize("case", cases("cps_step"))
def test_the_cps_step_is_flow_cpss(case):
    step, at = CPS(case.number("eta")), interval(case)
    mean = step.mean(case["x"], case["v"], at)
    agree(mean, case.wide("mean"), "mean")
    agree(step.deviation(at), case.wide("std"), "std")
    agree(mean + step.deviation(at) * case["z"], case.wide("x_next"), "x_next")
    agree(step.log_probability(case["given"], mean, at), case.wide("log_prob_given"), "log_prob_given")


@pytest.mark.parametrize("case", cases("mix_grpo_step"))
def test_the_sde_step_of_a_table_that_is_shifted_once_is_mix_grpos(case):
    at = interval(case)
    if bool(case.number("ode")):
        agree(case["x"] + case["v"] * (at.sigma_next - at.sigma), case.wide("x_next"), "x_next")
        return
    step = SDE(case.number("noise_level"))
    agree(step.mean(case["x"], case["v"], at), case.wide("mean"), "mean")
    agree(step.deviation(at), case.wide("std"), "std")


def test_values_by_hand():
    """Half way, from 1/2 to 1/4 with noise 1: s = 1, dt = -1/4, s^2 / (2 sigma) = 1."""
    at = Interval(0.5, 0.25, 0.9)
    x, v = torch.tensor([[4.0]]), torch.tensor([[2.0]])
    step = SDE(1.0)
    assert step.rate(at) == 1
    assert step.deviation(at) == 0.5
    assert step.mean(x, v, at).item() == 4 * (1 - 0.25) + 2 * (1 + 0.5) * -0.25
    density = torch.distributions.Normal(1.0, 0.5).log_prob(torch.tensor(1.3)).item()
    assert step.log_probability(torch.tensor([[1.3]]), torch.tensor([[1.0]]), at).item() == pytest.approx(density)
    # CPS with noise 1/3: deviation 1/4 sin(30 degrees) = 1/8; x0 = 4 - 1/2 * 2 = 3, x1 = 4 + 1/2 * 2 = 5.
    coefficient = CPS(1 / 3)
    assert coefficient.deviation(at) == pytest.approx(1 / 8)
    assert coefficient.mean(x, v, at).item() == pytest.approx(0.75 * 3 + math.sqrt(1 / 16 - 1 / 64) * 5)


def test_the_first_steps_deviation_is_the_noise_level():
    """sqrt(1 / (1 - q)) sqrt(1 - q) with q the second entry."""
    at = Interval(1.0, 0.96, 0.96)
    assert SDE(0.7).deviation(at) == pytest.approx(0.7)


def test_cps_keeps_the_next_noise_level():
    """Of an image x0 and a noise x1 with unit variance the step makes (1 - sigma_next) x0 and noise of sigma_next."""
    draw = torch.Generator().manual_seed(0)
    x0, x1, z = (torch.randn(200_000, 1, generator=draw, dtype=torch.float64) for _ in range(3))
    at = Interval(0.8, 0.6, 0.9)
    step = CPS(0.7)
    drawn = step.mean((1 - 0.8) * x0 + 0.8 * x1, x1 - x0, at) + step.deviation(at) * z
    rest = drawn - (1 - 0.6) * x0
    assert rest.std().item() == pytest.approx(0.6, rel=5e-3)
