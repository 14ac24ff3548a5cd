# Annotations in diffusers and transformers are narrower than what their functions take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOptionalSubscript=false

import pytest
import torch

from dgpo.flow import add_noise, guide, integrate, seeded_noise, velocity_error
from dgpo.schedule import build_scheduler, sampled_times

GOLDEN_NOISE = (1.2358566522598267, -0.9014515280723572, -0.37740272283554077)
SD3 = {"num_train_timesteps": 1000, "shift": 3.0}


def test_add_noise_by_hand():
    x0, noise = torch.tensor([[[[2.0]]]]), torch.tensor([[[[-4.0]]]])
    assert add_noise(x0, noise, 0.25).item() == pytest.approx(0.75 * 2 + 0.25 * -4)
    assert torch.equal(add_noise(x0, noise, 0.0), x0)
    assert torch.equal(add_noise(x0, noise, 1.0), noise)


def test_velocity_error_by_hand():
    # eps - x0 = (2, -1); v = (3, 1): squares 1 and 4; the second image is exact
    x0 = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    noise = torch.tensor([[[[3.0, 1.0]]], [[[5.0, 6.0]]]])
    velocity = torch.tensor([[[[3.0, 1.0]]], [[[5.0, 6.0]]]])
    assert velocity_error(velocity, x0, noise).tolist() == [2.5, 0.0]
    assert velocity_error(velocity.bfloat16(), x0.bfloat16(), noise.bfloat16()).dtype == torch.float32


def test_guidance_by_hand():
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert guide(conditional, unconditional, 4.5).item() == 1 + 4.5 * 2
    assert guide(conditional, unconditional, 1.0).item() == 3


@pytest.mark.parametrize(("sampler", "tolerance"), [("euler", 1e-5), ("dpm++", 2e-3)])
@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_constant_velocity_field_is_integrated_to_its_image(sampler, tolerance, steps):
    """Both solvers are exact on straight lines; DPM-Solver++ starts at 0.9997 and keeps 0.0003 of the velocity."""
    x0, noise = seeded_noise((2, 3, 4, 4), "image"), seeded_noise((2, 3, 4, 4), "noise")
    asked = []

    def velocity(x, sigma):
        asked.append(sigma[0].item())
        return noise - x0

    scheduler = build_scheduler(sampler, SD3, steps)
    drawn = integrate(velocity, noise, scheduler)
    assert (drawn - x0).abs().max() < tolerance
    torch.testing.assert_close(drawn, noise - scheduler.sigmas[0] * (noise - x0), rtol=0, atol=1e-5)
    assert asked == pytest.approx(sampled_times(scheduler))
    assert len(asked) == steps


def test_second_integration_with_one_scheduler_is_the_first():
    scheduler = build_scheduler("dpm++", SD3, 5)
    noise = seeded_noise((1, 2, 2, 2), 1)
    first = integrate(lambda x, sigma: x.sin(), noise, scheduler)
    assert torch.equal(first, integrate(lambda x, sigma: x.sin(), noise, scheduler))


def test_seeded_noise_depends_on_its_identity_alone():
    torch.manual_seed(1)
    first = seeded_noise((4,), "rollout", 0, 7)
    torch.manual_seed(2)
    seeded_noise((4,), "another", 1)
    assert torch.equal(first, seeded_noise((4,), "rollout", 0, 7))
    assert not torch.equal(first, seeded_noise((4,), "rollout", 7, 0))
    assert not torch.equal(seeded_noise((4,), 1, 23), seeded_noise((4,), 12, 3))


def test_seeded_noise_is_what_it_always_was():
    """Published images depend on it: a change here changes every evaluation's noise."""
    expected = torch.tensor(GOLDEN_NOISE)
    torch.testing.assert_close(seeded_noise((3,), "image", "0123456789abcdef", 0), expected, rtol=0, atol=1e-6)
