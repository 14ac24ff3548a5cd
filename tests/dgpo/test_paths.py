import pytest
import torch

from dgpo.paths import RectifiedFlow, guide

PATH = RectifiedFlow()


def test_add_noise_by_hand():
    x0, noise = torch.tensor([[[[2.0]]]]), torch.tensor([[[[-4.0]]]])
    assert PATH.add_noise(x0, noise, 0.25).item() == pytest.approx(0.75 * 2 + 0.25 * -4)
    assert torch.equal(PATH.add_noise(x0, noise, 0.0), x0)
    assert torch.equal(PATH.add_noise(x0, noise, 1.0), noise)


def test_velocity_error_by_hand():
    # eps - x0 = (2, -1); v = (3, 1): squares 1 and 4; the second image is exact
    x0 = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    noise = torch.tensor([[[[3.0, 1.0]]], [[[5.0, 6.0]]]])
    velocity = torch.tensor([[[[3.0, 1.0]]], [[[5.0, 6.0]]]])
    assert PATH.error(velocity, x0, noise).tolist() == [2.5, 0.0]
    assert PATH.error(velocity.bfloat16(), x0.bfloat16(), noise.bfloat16()).dtype == torch.float32


def test_guidance_by_hand():
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert guide(conditional, unconditional, 4.5).item() == 1 + 4.5 * 2
    assert guide(conditional, unconditional, 1.0).item() == 3
