# Annotations in diffusers and transformers are narrower than what their functions take and give.

from typing import Any

import torch

from dgpo.models.tiny import network
from dgpo.models.tiny.pretrain import Denoiser, to_network, trapezoid
from dgpo.models.tiny.tokenizer import build_tokenizer
from dgpo.noise import seeded_noise


def test_every_block_starts_as_the_identity_and_the_velocity_as_zero():
    torch.manual_seed(0)
    model = Denoiser()
    ids = build_tokenizer()(['a red sign that says "fog"'], padding="max_length", return_tensors="pt").input_ids
    assert not model(seeded_noise((1, 8, 8, 16), 0), torch.tensor([0.5]), ids).any()


def test_canvas_and_latents_fit_together():
    autoencoder: Any = network.build_autoencoder()
    with torch.no_grad():
        latent = autoencoder.encode(torch.zeros(1, 3, 32, 64)).latent_dist.mode()
        assert latent.shape == (1, network.LATENT_CHANNELS, 8, 16)
        assert autoencoder.decode(latent).sample.shape == (1, 3, 32, 64)


def test_whole_model_is_below_ten_megabytes_in_half_precision():
    count = sum(p.numel() for module in (Denoiser(), network.build_autoencoder()) for p in module.parameters())
    assert 2 * count < 10e6


def test_pixels_become_network_numbers():
    assert to_network(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_learning_rate_by_hand():
    # 10 steps, 2 of warm-up, the last four of which fall from 1 to 1/4
    factors = [trapezoid(step, 10, 2) for step in range(10)]
    assert factors == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
