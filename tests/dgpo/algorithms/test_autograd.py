"""Each algorithm's whole update against its equation, written down once more and differentiated by torch.

The policy is one number per weight set, v = w x + 0.1 sigma, so that nothing but the objective is at work; the noise
and the times are read off what the policy was asked.
"""

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgpo.algorithms.algorithm import Geometry, find_algorithm
from dgpo.batch import Batch, Trajectory
from dgpo.parallel import Ranks
from dgpo.paths import RectifiedFlow
from dgpo.sections import Advantage
from dgpo.stochastic import SDE, Interval
from rewards.prompt import Prompt

K, G, SHAPE = 2, 3, (2, 2, 3)
TABLE = [1.0, 0.9, 0.7, 0.4]
SCORES = torch.tensor([[0.1, 0.7, 0.4], [0.9, 0.2, 0.3]], dtype=torch.float64)


class Line:
    """A policy whose weight sets are numbers; it remembers what the learning one was asked."""

    def __init__(self) -> None:
        self.weight = {"current": torch.tensor(0.5, requires_grad=True)}
        self.weight |= {"reference": torch.tensor(0.4), "old": torch.tensor(0.45), "fast": torch.tensor(0.48)}
        self.passes: Counter[str] = Counter()
        self.model = SimpleNamespace(path=RectifiedFlow(), passes=lambda guidance: 1)
        self.snapshots: dict[str, Any] = {}
        self.asked: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def velocity(self, who, x_BCHW, sigma_B, conditioning, *, guidance=1.0, purpose):
        if who == "current" and torch.is_grad_enabled():
            self.asked.append((x_BCHW, sigma_B, conditioning.rows))
        return self.at(who, x_BCHW, sigma_B)

    def at(self, who, x, sigma):
        return self.weight[who] * x + 0.1 * sigma.view(-1, 1, 1, 1)

    def follow(self, name, decay):
        pass


class Rows:
    """Conditioning that remembers which rows were taken."""

    def __init__(self, rows):
        self.rows = rows

    def take(self, index):
        return Rows(index)


def batch_of(trajectory=None):
    draw = torch.Generator().manual_seed(1)
    x0 = torch.randn(K * G, *SHAPE, generator=draw)
    prompts, conditioning = [Prompt("a"), Prompt("b")], Rows(None)
    images = torch.arange(K * G)
    rows: Any = conditioning
    return Batch(prompts, G, images, x0, rows, TABLE, scores_KG=SCORES, trajectory=trajectory)


def learn(name, settings, batch, micro=K * G):
    """The gradient that one update leaves, and the policy."""
    kind, policy = find_algorithm(name), Line()
    geometry = Geometry(K, G, micro, 7)
    stand_in: Any = policy
    algorithm = kind(
        kind.Settings(**settings), advantage=Advantage(), geometry=geometry, policy=stand_in, ranks=Ranks(cpu=True)
    )
    gradients = []

    def update():
        gradient = policy.weight["current"].grad
        assert gradient is not None
        gradients.append(gradient.item())
        algorithm.updated(1)

    algorithm.learn(batch, 0, update)
    assert len(gradients) == 1
    return gradients[0], policy


def advantages():
    mean, deviation = SCORES.mean(dim=1, keepdim=True), SCORES.std(dim=1, keepdim=True, correction=0)
    return ((SCORES - mean) / (deviation + 1e-4)).flatten()


def noises(batch, policy, image_of):
    """(image numbers, x, sigma, noise) of every time that the policy was asked, with gradient, in float64."""
    for x, sigma, groups in policy.asked:
        rows = image_of(groups)
        wide = sigma.double().view(-1, 1, 1, 1)
        x0 = batch.x0_BCHW[rows].double()
        yield rows, x.double(), wide, (x.double() - (1 - wide) * x0) / wide, x0


def close(ours, theirs):
    assert abs(ours - theirs) < 1e-5 * abs(theirs)


def mean(values):
    return values.flatten(1).mean(dim=1)


def order_of_shares(batch, algorithm_seed=7):
    from dgpo.noise import seeded_generator

    order = torch.randperm(K * G, generator=seeded_generator("deal", algorithm_seed, 0))
    chosen = torch.arange(K * G)[order]
    return torch.isin(batch.image_B, chosen).nonzero().flatten()


@pytest.mark.parametrize("micro", [K * G, 2])
def test_nft(micro):
    batch, beta, kl = batch_of(), 0.7, 0.3
    ours, policy = learn("nft", {"beta": beta, "kl": kl, "times": 3}, batch, micro)
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    rows, total, start = order_of_shares(batch), torch.zeros(()).double(), 0
    parts = list(rows.split(micro))
    for number, (_, x, wide, _, _) in enumerate(noises(batch, policy, lambda groups: slice(0, len(groups)))):
        images = parts[number // 3]
        x0 = batch.x0_BCHW[images].double()
        v = weight * x + 0.1 * wide
        old, reference = (torch.tensor(w).double() * x + 0.1 * wide for w in (0.45, 0.4))
        good = (advantages()[images].clamp(-5, 5) / 10 + 0.5).clamp(0, 1)
        terms = []
        for side in ((1 - beta) * old + beta * v, (1 + beta) * old - beta * v):
            off = x - wide * side - x0
            terms.append(mean(off.square()) / mean(off.detach().abs()).clamp(min=1e-5))
        total = total + (5 / beta * (good * terms[0] + (1 - good) * terms[1]) + kl * mean((v - reference) ** 2)).sum()
        start += len(images)
    assert start == K * G * 3
    (total / (K * G * 3)).backward()
    assert weight.grad is not None
    close(ours, weight.grad.item())


@pytest.mark.parametrize("anchors", ["uniform", "elbo"])
def test_awm(anchors):
    batch = batch_of()
    settings = {"times": 2, "strata": "all", "share": 1.0, "base": 0.2, "fast": 0.4, "anchors": anchors}
    ours, policy = learn("awm", settings, batch)
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    images, total = order_of_shares(batch), torch.zeros(()).double()
    for _, x, wide, noise, x0 in noises(batch, policy, lambda groups: images):
        v = weight * x + 0.1 * wide
        error = mean((v - (noise - x0)).square())
        log_p = -((error + 1e-10) ** 0.25 - 1e-10**0.25) * wide.flatten() / 0.25
        ratio = (log_p - log_p.detach()).exp()
        terms = -advantages()[images].clamp(-5, 5) / 5 * ratio
        sigma = wide.flatten()
        scale = 2 * 0.7**2 * sigma / (1 - sigma.clamp(max=0.99)) if anchors == "elbo" else 1.0
        for size, other in ((0.2, 0.4), (0.4, 0.48)):
            terms = terms + size * mean((v - (torch.tensor(other).double() * x + 0.1 * wide)).square()) / scale
        total = total + terms.sum()
    (total / (K * G * 2)).backward()
    assert weight.grad is not None
    close(ours, weight.grad.item())


def test_flow_grpo():
    draw = torch.Generator().manual_seed(2)
    states = torch.randn(3, K * G, *SHAPE, generator=draw)
    intervals = [Interval(1.0, 0.9, 0.9), Interval(0.9, 0.7, 0.9)]
    step, old_log_p = SDE(0.7), torch.randn(2, K * G, generator=draw) * 1e-3
    policy = Line()
    with torch.no_grad():
        for number, at in enumerate(intervals):
            sigma = torch.full((K * G,), at.sigma)
            mean_now = step.mean(states[number], policy.at("old", states[number], sigma), at)
            old_log_p[number] += step.log_probability(states[number + 1], mean_now, at)
    batch = batch_of(Trajectory(step, intervals, [1.0, 0.9], states, old_log_p, None, 1.0))
    clip, kl = 0.05, 0.04
    ours, _ = learn("flow-grpo", {"clip": clip, "kl": kl, "updates": 1}, batch)
    weight, total = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), torch.zeros(()).double()
    for number, at in enumerate(intervals):
        x, following, dt = states[number].double(), states[number + 1].double(), at.sigma_next - at.sigma
        s = 0.7 * math.sqrt(at.sigma / (1 - (0.9 if at.sigma == 1 else at.sigma)))
        means = [
            x * (1 + s * s / (2 * at.sigma) * dt)
            + (w * x + 0.1 * at.sigma) * (1 + s * s * (1 - at.sigma) / (2 * at.sigma)) * dt
            for w in (weight, torch.tensor(0.4).double())
        ]
        density = torch.distributions.Normal(means[0], s * math.sqrt(-dt))
        ratio = (mean(density.log_prob(following)) - old_log_p[number].double()).exp()
        signed = advantages().clamp(-5, 5)
        policy_loss = torch.maximum(-signed * ratio, -signed * ratio.clamp(1 - clip, 1 + clip))
        total = total + (policy_loss + kl * mean((means[0] - means[1]).square()) / (2 * s * s)).sum()
    (total / (K * G * 2)).backward()
    assert weight.grad is not None
    close(ours, weight.grad.item())


@pytest.mark.parametrize("micro", [K * G, 1])
def test_diffusion_dpo(micro):
    """Each group's best and worst image, which share a noise: images 1 and 0 of the first, 0 and 1 of the second."""
    batch, beta = batch_of(), 3.0
    ours, policy = learn("diffusion-dpo", {"beta": beta, "times": 2}, batch, micro)
    weight, total = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), torch.zeros(()).double()
    asked: dict[tuple[float, int], list[torch.Tensor]] = {}
    for x, sigma, groups in policy.asked:
        for row, group in enumerate(groups.tolist()):
            asked.setdefault((sigma[row].item(), group), []).append(x[row])
    assert len(asked) == 4
    for (sigma, group), (first, second) in asked.items():
        margins = []
        for place, x in enumerate((first, second)):
            x0, x = batch.x0_BCHW[group * G + place].double(), x.double()
            noise = (x - (1 - sigma) * x0) / sigma
            errors = [
                ((w * x + 0.1 * sigma) - (noise - x0)).square().mean() for w in (weight, torch.tensor(0.4).double())
            ]
            margins.append(errors[0] - errors[1])
        win, lose = (margins[1], margins[0]) if group == 0 else (margins[0], margins[1])
        total = total - torch.nn.functional.logsigmoid(-beta / 2 * (win - lose))
    (total / (2 * 2)).backward()
    assert weight.grad is not None
    close(ours, weight.grad.item())
