import math

import pytest
import torch
from torch.nn import functional as F

from dgpo.algorithms.group_preference import group_margins, image_weights, preference_loss, reported_loss, unclipped
from dgpo.paths import RectifiedFlow
from tests.dgpo.algorithms.recorded import agree, cases

K, G, SIGMA = 3, 4, 0.7


def alone(tensor):
    return tensor


@pytest.fixture
def images():
    """Twelve images in three groups, noised; a network of one matrix, and its reference."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x0, noise_K = normal(K * G, 2, 3, 3), normal(K, 2, 3, 3)
    group = torch.arange(K * G) // G
    reference = normal(18, 18) / 4
    return {
        "x0": x0,
        "noise": noise_K[group],
        "x": RectifiedFlow().add_noise(x0, noise_K[group], SIGMA),
        "group": group,
        "advantage": normal(K * G),
        "reference": reference,
        "theta": (reference + 0.3 * normal(18, 18)).requires_grad_(),
    }


def predict(matrix, x):
    return (x.flatten(1) @ matrix).view_as(x)


def paper_gradient(images, beta):
    """Autograd of Eq. 17 as the paper writes it: two sums over G+ and G-, errors of the predicted clean image.

    beta/G stands for beta, lambda_t = 1/sigma^2, T is left out; divided by beta, averaged over prompts.
    """

    def clean_error(matrix):
        f = images["x"] - SIGMA * predict(matrix, images["x"])
        return (f - images["x0"]).square().flatten(1).mean(dim=1)

    theta = images["theta"].detach().clone().requires_grad_()
    difference = clean_error(theta) - clean_error(images["reference"]).detach()
    total = torch.zeros((), dtype=torch.float64)
    for k in range(K):
        better = worse = torch.zeros((), dtype=torch.float64)
        for i in range(k * G, (k + 1) * G):
            weight = images["advantage"][i].abs()
            if images["advantage"][i] > 0:
                better = better + weight * difference[i]
            else:
                worse = worse + weight * difference[i]
        total = total - F.logsigmoid(-(1 / SIGMA**2) * (beta / G) * (better - worse)) / K
    (gradient,) = torch.autograd.grad(total / beta, theta)
    return gradient


def implemented_gradient(images, beta, rows_of_ranks, micro_batch=K * G):
    """The gradient summed over ranks, each with its rows in micro-batches; the margins are summed over all first."""
    theta = images["theta"].detach().clone().requires_grad_()
    options = {"groups": K, "group_size": G, "beta": beta}

    def errors(matrix, rows):
        return RectifiedFlow().error(predict(matrix, images["x"][rows]), images["x0"][rows], images["noise"][rows])

    def margins(rows, sum_over_ranks):
        with torch.no_grad():
            inputs = (errors(theta, rows), errors(images["reference"], rows), images["advantage"][rows])
        return group_margins(*inputs, images["group"][rows], **options, sum_over_ranks=sum_over_ranks)

    shares = [margins(rows, alone) * (G / beta) for rows in rows_of_ranks]
    for rows in rows_of_ranks:
        margin = margins(rows, lambda own: torch.stack(shares).sum(dim=0))
        for part in rows.split(micro_batch):
            weight = image_weights(margin, images["advantage"][part], images["group"][part])
            preference_loss(errors(theta, part), weight, K * G).backward()
    return theta.grad


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("beta", [0.5, 10.0, 100.0])
def test_gradient_is_that_of_equation_17_over_beta(images, beta):
    expected = paper_gradient(images, beta)
    assert expected.norm() > 1e-4
    assert relative_error(implemented_gradient(images, beta, [torch.arange(K * G)]), expected) < 1e-5


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("micro_batch", [1, 3, 12])
def test_gradient_does_not_depend_on_how_images_are_dealt(images, ranks, micro_batch):
    rows = [torch.arange(rank, K * G, ranks) for rank in range(ranks)]
    assert relative_error(implemented_gradient(images, 10.0, rows, micro_batch), paper_gradient(images, 10.0)) < 1e-5


def test_margins_by_hand():
    # group 0: 2 * (1.5 - 1) - 1 * (0 - 1) = 2; group 1: 0.5 * (3 - 1) = 1; times beta / G = 8 / 2
    margin = group_margins(
        torch.tensor([1.5, 3.0, 0.0], requires_grad=True),
        torch.tensor([1.0, 1.0, 1.0]),
        torch.tensor([2.0, 0.5, -1.0]),
        torch.tensor([0, 1, 0]),
        groups=3,
        group_size=2,
        beta=8.0,
        sum_over_ranks=alone,
    )
    assert margin.tolist() == [8.0, 4.0, 0.0]
    assert not margin.requires_grad


def test_weights_by_hand():
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4
    weight = image_weights(torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, -2.0, 4.0]), torch.tensor([0, 1, 1]))
    assert weight.tolist() == pytest.approx([0.5, -1.5, 3.0])


def test_beta_does_not_scale_the_gradient_where_nothing_was_learned_yet(images):
    """At theta = reference every margin is 0 and every weight A/2, whatever beta is."""
    images["theta"] = images["reference"].clone()
    rows = [torch.arange(K * G)]
    small, large = (implemented_gradient(images, beta, rows) for beta in (0.1, 1000.0))
    assert torch.equal(small, large)
    assert relative_error(small, paper_gradient(images, 7.0)) < 1e-5


def test_a_large_beta_turns_groups_off_that_are_well_ordered():
    """Better images improved, worse ones got worse: the margin is negative and the group's weight goes to 0."""
    error, reference = torch.tensor([0.9, 1.1]), torch.ones(2)
    advantage, group = torch.tensor([1.0, -1.0]), torch.tensor([0, 0])
    weights = []
    for beta in (1.0, 100.0):
        options = {"groups": 1, "group_size": 2, "beta": beta, "sum_over_ranks": alone}
        margin = group_margins(error, reference, advantage, group, **options)
        weights.append(image_weights(margin, advantage, group)[0].item())
    assert weights == pytest.approx([1 / (1 + math.exp(0.1)), 1 / (1 + math.exp(10.0))], rel=1e-5)


def test_all_equal_rewards_give_no_gradient(images):
    images["advantage"] = torch.zeros(K * G, dtype=torch.float64)
    assert not implemented_gradient(images, 10.0, [torch.arange(K * G)]).any()


def test_clip_by_hand():
    # ratio = exp(old - error): better by 0.2 -> 1.221, by 0.05 -> 1.051, worse by 0.2 -> 0.819, by 0.05 -> 0.951
    error = torch.tensor([0.8, 0.95, 1.2, 1.05] * 3)
    advantage = torch.tensor([1.0] * 4 + [-1.0] * 4 + [0.0] * 4)
    counts = unclipped(error, torch.ones(12), advantage, 0.1).tolist()
    assert counts[:4] == [False, True, True, True]
    assert counts[4:8] == [True, True, False, True]
    assert counts[8:] == counts[4:8]


def test_clip_boundaries_count():
    old, error = torch.tensor([math.log(1.5), math.log(0.5)], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    advantage = torch.tensor([1.0, -1.0])
    assert unclipped(error, old, advantage, 0.5 + 1e-12).tolist() == [True, True]
    assert unclipped(error, old, advantage, 0.5 - 1e-12).tolist() == [False, False]


def test_reported_loss_by_hand():
    # softplus(0) = ln 2, softplus(ln 3) = ln 4 = 2 ln 2
    assert reported_loss(torch.tensor([0.0, math.log(3)]), 10.0).item() == pytest.approx(1.5 * math.log(2) / 10)


@pytest.mark.parametrize("case", cases("dgpo_loss"))
def test_loss_and_gradient_are_the_released_codes(case):
    """Two ranks of half of the images each; the mean of both ranks' losses is the loss of all."""
    v, images = case["v"].requires_grad_(), len(case["advantage"])
    target = case["noise"] - case["x0"]

    def error_of(velocity):
        return (velocity - target).square().flatten(1).mean(dim=1)

    error, old_error = error_of(v), error_of(case["v_old"])
    reference_error = error_of(case["v_old" if bool(case.number("reference_is_old")) else "v_ref"])
    advantage, group = case["advantage"].clamp(-5, 5), case["group"].long()
    agree(error.detach(), case.wide("error"), "error")
    agree(reference_error, case.wide("ref_error"), "ref_error")
    size, beta = int(case.number("group_size")), case.number("beta")
    margin = group_margins(
        error, reference_error, advantage, group, groups=int(group.max()) + 1, group_size=size, beta=beta,
        sum_over_ranks=lambda total: total,
    )  # fmt: skip
    # An error of about 1 is known to its last bits, and beta multiplies what is left of two of them.
    assert (margin - case.wide("margin")).abs().max() < 1e-15 * beta
    weight = image_weights(margin, advantage, group)
    if bool(case.number("clip_error")):
        counts = unclipped(error, old_error, advantage, case.number("clip"))
        assert torch.equal(~counts, case.flags("clipped"))
    else:
        counts = torch.ones(images, dtype=torch.bool)
    ranks = [slice(0, images // 2), slice(images // 2, images)]
    losses = [preference_loss(error[rank], (weight * counts)[rank], images // 2) for rank in ranks]
    # The code reports the clipped images' loss too, without their gradient.
    reported = torch.stack([(weight * error.detach())[rank].mean() for rank in ranks])
    agree(reported, case.wide("dgpo_loss_rank"), "dgpo_loss_rank")
    drift = (v - case["v_ref"]).square().flatten(1).mean(dim=1)
    if bool(case.number("clip_kl")):
        drift = torch.where(counts, drift, drift.detach())
    if case.number("kl"):
        agree(torch.stack([drift.detach()[rank].mean() for rank in ranks]), case.wide("kl_loss_rank"), "kl_loss_rank")
    (sum(losses) / 2 + case.number("kl") * drift.mean()).backward()
    assert v.grad is not None
    agree(v.grad, case.wide("grad_v"), "grad_v")
