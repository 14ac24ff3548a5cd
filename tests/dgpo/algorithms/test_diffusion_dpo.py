"""Diffusion-DPO: pairs, times and loss are the published code's, and the limit of DGPO that it is."""

import json

import pytest
import torch

from dgpo.algorithms.dgpo import weigh
from dgpo.algorithms.diffusion_dpo import mark_pairs, pair_loss, training_sigma
from dgpo.algorithms.group_preference import group_margins, image_weights
from tests.dgpo.algorithms.recorded import GOLDEN, agree, cases

PAIRS = json.loads((GOLDEN / "dpo_pairs.json").read_text())["cases"]


@pytest.mark.parametrize("case", cases("diffusion_dpo"))
def test_loss_and_gradient_are_the_published_codes(case):
    pairs, beta = len(case["time"]), case.number("beta")
    sigma = training_sigma(case["u"], 3.0)
    agree(sigma, case.wide("sigma"), "sigma", 1e-6)  # recorded from a table of float32
    wide = case.wide("sigma").view(-1, 1, 1, 1)
    errors, references = [], []
    for side in ("win", "lose"):
        x0, noise = case[f"x0_{side}"], case["noise"]
        agree((1 - wide) * x0 + wide * noise, case.wide(f"x_t_{side}"), "x_t", 1e-7)
        errors.append((case[f"v_{side}"].requires_grad_() - (noise - x0)).square().flatten(1).mean(dim=1))
        references.append((case[f"v_ref_{side}"] - (noise - x0)).square().flatten(1).mean(dim=1))
    error, reference = torch.cat(errors), torch.cat(references)
    mark = torch.tensor([1.0] * pairs + [-1.0] * pairs, dtype=torch.float64)
    group = torch.arange(pairs).repeat(2)
    margin = group_margins(
        error, reference, mark, group, groups=pairs, group_size=2, beta=beta, sum_over_ranks=lambda total: total
    )
    agree(-margin, case.wide("inside"), "inside")
    agree(pair_loss(margin).mean(), case.wide("loss"), "loss")
    weights = image_weights(margin, mark, group) * beta / 2
    inputs = [case[f"v_{side}"].requires_grad_() for side in ("win", "lose")]
    for v, side, weight in zip(inputs, ("win", "lose"), weights.split(pairs), strict=True):
        x0, noise = case[f"x0_{side}"], case["noise"]
        ((v - (noise - x0)).square().flatten(1).mean(dim=1) * weight).sum().div(pairs).backward()
        assert v.grad is not None
        agree(v.grad, case.wide(f"grad_v_{side}"), f"grad_v_{side}")


@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case["name"])
def test_pairs_are_the_published_codes(case):
    prompts = list(dict.fromkeys(case["prompts"]))
    size = len(case["prompts"]) // len(prompts)
    places = [[i for i, one in enumerate(case["prompts"]) if one == prompt] for prompt in prompts]
    assert all(len(some) == size for some in places)
    scores = torch.tensor([[case["rewards"][i] for i in some] for some in places], dtype=torch.float64)
    marks = mark_pairs(scores, skip_equal=False)
    assert marks.tolist() == [[case["mark"][i] for i in some] for some in places]


def test_a_failed_score_is_in_no_pair():
    nan = float("nan")
    scores = torch.tensor([[nan, 0.2, 0.9], [nan, nan, 0.5], [0.5, nan, 0.5]])
    assert mark_pairs(scores, skip_equal=True).tolist() == [[0, -1, 1], [0, 0, 0], [0, 0, 0]]
    assert mark_pairs(scores, skip_equal=False).tolist() == [[0, -1, 1], [0, 0, 0], [-1, 0, 1]]


def test_dgpo_of_pairs_is_diffusion_dpo():
    """One margin: beta / G times G / 2 is beta / 2; and its gradient is Diffusion-DPO's over beta."""
    scores = torch.tensor([[0.1, 0.9, 0.4, 0.3]], dtype=torch.float64)
    error = torch.tensor([0.5, 0.2, 0.4, 0.7], dtype=torch.float64)
    reference, group = torch.tensor([0.4, 0.3, 0.1, 0.9], dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    weights = weigh(torch.ones(1, 4), scores, "pairs").flatten()
    marks = mark_pairs(scores, skip_equal=True).flatten()

    def margins(sides, size):
        return group_margins(
            error, reference, sides, group, groups=1, group_size=size, beta=10.0, sum_over_ranks=lambda total: total
        )

    assert margins(weights, 4).item() == pytest.approx(margins(marks, 2).item())
    assert margins(marks, 2).item() == pytest.approx(10 / 2 * ((0.2 - 0.3) - (0.5 - 0.4)))
    of_group = image_weights(margins(weights, 4), weights, group) / 4
    of_pair = image_weights(margins(marks, 2), marks, group) * 10 / 2
    assert torch.allclose(of_group, of_pair / 10)
