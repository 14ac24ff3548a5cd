import copy

import pytest
import torch

from dgpo.noise import seeded_noise
from dgpo.samplers import SAMPLERS, ignore_step, sample_dpmpp_2m, sample_euler
from dgpo.schedule import build_schedule

SD3 = {"num_train_timesteps": 1000, "shift": 3.0}


@pytest.mark.parametrize(("sampler", "tolerance"), [("euler", 1e-5), ("dpm++", 2e-3)])
@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_constant_velocity_field_is_integrated_to_its_image(sampler, tolerance, steps):
    """Both solvers are exact on straight lines; DPM-Solver++ starts at 0.9997 and keeps 0.0003 of the velocity."""
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
