import copy
from types import SimpleNamespace

import pytest
import torch

from dgpo.noise import seeded_noise
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
