import copy
from types import SimpleNamespace

import pytest
import torch

from dgpo.noise import seeded_noise
from dgpo.sa_solver import Leg, SASampler, inner_table
from dgpo.samplers import SAMPLERS, ignore_step, sample_dpm2, sample_dpmpp_2m, sample_euler
from dgpo.schedule import Schedule, build_schedule
from tests.dgpo.algorithms.recorded import cases

SD3 = {"num_train_timesteps": 1000, "shift": 3.0}


@pytest.mark.parametrize(("sampler", "tolerance"), [("euler", 1e-5), ("dpm2", 1e-5), ("dpm++", 2e-3)])
@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_constant_velocity_field_is_integrated_to_its_image(sampler, tolerance, steps):
    """All solvers are exact on straight lines; DPM-Solver++ starts at 0.9997 and keeps 0.0003 of the velocity."""
    x0, noise = seeded_noise((2, 3, 4, 4), "image"), seeded_noise((2, 3, 4, 4), "noise")
    asked = []

    def velocity(x, sigma):
        asked.append(sigma[0].item())
        return noise - x0

    schedule = build_schedule(sampler, SD3, steps)
    drawn = SAMPLERS[sampler](velocity, noise, schedule, ignore_step)
    assert (drawn - x0).abs().max() < tolerance
    torch.testing.assert_close(drawn, noise - schedule.solver.sigmas[0] * (noise - x0), rtol=0, atol=1e-5)
    assert asked == pytest.approx(schedule.times)
    assert len(asked) == steps


@pytest.mark.parametrize(("name", "sample"), [("dpm2", sample_dpm2), ("euler", sample_euler)])
def test_nfts_rollout_and_evaluation_are_the_published_codes(name, sample):
    """On its linear field, whose velocity is known everywhere; the sampler's own state is fp32."""
    (case,) = [param.values[0] for param in cases("rollout") if param.values[0].name == "rollout"]
    matrix, offset = case["matrix"].float(), case["offset"].float()
    sigmas = case["sigmas"].float()
    solver = SimpleNamespace(
        sigmas=sigmas, timesteps=sigmas[:-1] * 1000, config=SimpleNamespace(num_train_timesteps=1000)
    )
    seen = []
    drawn = sample(
        lambda x, sigma: x @ matrix.T + sigma[:, None] * offset,
        case["x_start"].float(),
        Schedule(sigmas[:-1].tolist(), solver),
        lambda number, sigma, x: seen.append(x),
    )
    torch.testing.assert_close(torch.stack([*seen, drawn]).double(), case.wide(name), rtol=0, atol=1.2e-6)


def test_awms_rollout_is_the_published_codes():
    """Its SA-Solver, on the same kind of field: every state after its correction, with the noise that was drawn."""
    (case,) = [param.values[0] for param in cases("rollout") if param.values[0].name == "sa_solver"]
    matrix, offset, noise = case["matrix"].float(), case["offset"].float(), case["noise"].float()
    euler = build_schedule("euler", SD3, 14)
    torch.testing.assert_close(
        inner_table(euler.solver.sigmas.tolist()), case["times"][:-1].tolist(), rtol=0, atol=1e-7
    )
    seen = []
    drawn = SASampler(0.4, lambda number: noise[number + 1])(
        lambda x, sigma: x @ matrix.T + sigma[:, None] * offset,
        case["x_start"].float(),
        euler,
        lambda number, sigma, x: seen.append(x),
    )
    torch.testing.assert_close(torch.stack([*seen, drawn]).double(), case.wide("latents"), rtol=0, atol=3e-6)


@pytest.mark.parametrize("noise_level", [0.0, 0.4])
@pytest.mark.parametrize("steps", [2, 3, 14])
def test_a_straight_line_without_noise_is_followed_by_sa_solver(noise_level, steps):
    """Whatever the noise added, the clean image is the same at every time, and so is the end."""
    x0, start = seeded_noise((2, 3, 4, 4), "image"), seeded_noise((2, 3, 4, 4), "noise")
    asked = []

    def velocity(x, sigma):
        asked.append(sigma[0].item())
        return (x - x0) / sigma.view(-1, 1, 1, 1)

    sampler = SASampler(noise_level, lambda number: seeded_noise((2, 3, 4, 4), number))
    drawn = sampler(velocity, start, build_schedule("euler", SD3, steps))
    torch.testing.assert_close(drawn, x0, rtol=0, atol=1e-5)
    assert len(asked) == steps
    assert asked[0] == pytest.approx(0.999)


def test_sa_solvers_step_keeps_the_noise_level():
    """On the way of one image x0 the noise at the end is sigma_next: kept^2 + added^2 = sigma_next^2."""
    leg, zero = Leg(0.7, 0.5, 0.4), torch.zeros(1, 1)
    kept = leg.start(torch.full((1, 1), 0.7), zero, None).item()
    added = leg.start(zero, zero, torch.ones(1, 1)).item()
    assert kept**2 + added**2 == pytest.approx(0.5**2)
    assert Leg(0.7, 0.5, 0.0).start(torch.full((1, 1), 0.7), zero, torch.ones(1, 1)).item() == pytest.approx(0.5)


def test_second_image_of_one_schedule_is_the_first():
    schedule = build_schedule("dpm++", SD3, 5)
    noise = seeded_noise((1, 2, 2, 2), 1)
    first = sample_dpmpp_2m(lambda x, sigma: x.sin(), noise, schedule)
    assert torch.equal(first, sample_dpmpp_2m(lambda x, sigma: x.sin(), noise, schedule))


def test_euler_is_diffusers_bit_for_bit():
    schedule, noise = build_schedule("euler", SD3, 7), seeded_noise((2, 3, 4, 4), "noise")
    solver, expected = copy.deepcopy(schedule.solver), noise
    for time in solver.timesteps:
        expected = solver.step(expected.sin(), time, expected, return_dict=False)[0]
    assert torch.equal(sample_euler(lambda x, sigma: x.sin(), noise, schedule), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_is_told_with_what_the_network_is_asked_about(sampler):
    schedule, asked, told = build_schedule(sampler, SD3, 4), [], []

    def velocity(x, sigma):
        asked.append((sigma[0].item(), x.clone()))
        return x.sin()

    SAMPLERS[sampler](velocity, seeded_noise((1, 2, 2, 2), 1), schedule, lambda *step: told.append(step))
    assert [number for number, _, _ in told] == [0, 1, 2, 3]
    assert [sigma for _, sigma, _ in told] == schedule.times
    for (_, sigma, x), (at, seen) in zip(told, asked, strict=True):
        assert sigma == pytest.approx(at)
        assert torch.equal(x, seen)
