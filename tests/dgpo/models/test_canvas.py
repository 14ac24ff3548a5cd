"""Sizes: what a model can draw is told by its configs, and what it cannot is refused with the nearest that it can."""

import json

import pytest

from dgpo.models.find import TINY
from dgpo.models.sd3 import SD3
from rewards.errors import UsageError

# As published: Stable Diffusion 3.5 medium.
SD35 = SD3.canvas_of(
    {"in_channels": 16, "sample_size": 128, "patch_size": 2, "pos_embed_max_size": 384},
    {"block_out_channels": [128, 256, 512, 512]},
)


@pytest.fixture(scope="module")
def tiny():
    return SD3.canvas_of(*(json.loads((TINY / part / "config.json").read_text()) for part in ("transformer", "vae")))


def test_latents_and_patches_by_hand(tiny):
    assert SD35.latent_shape(None, None) == (16, 128, 128)
    assert SD35.latent_shape(512, 1024) == (16, 64, 128)
    assert (SD35.size(None, None), SD35.size(512, None)) == ((1024, 1024), (512, 1024))
    assert SD35.tokens((16, 64, 128)) == 32 * 64
    assert tiny.latent_shape(None, None) == (8, 16, 16)
    assert tiny.latent_shape(32, 64) == (8, 8, 16)
    assert tiny.tokens((8, 8, 16)) == 32
    assert tiny.latent_shape(128, 8) == (8, 32, 2)  # the largest side and the smallest


@pytest.mark.parametrize(
    ("pixels", "hint"),
    [
        (36, r"is 36, and this model draws multiples of 8 from 8 to 128 pixels; take 32 or 40\."),
        (33, r"take 32 or 40\."),
        (30, r"take 24 or 32\."),
        (7, r"take 8 or 16\."),
        (0, r"take 8 or 16\."),
        (127, r"take 120 or 128\."),
        (256, r"take 128\."),
    ],
)
@pytest.mark.parametrize("side", ["height", "width"])
def test_what_cannot_be_drawn_is_refused_with_the_nearest(tiny, side, pixels, hint):
    with pytest.raises(UsageError, match=rf"^sampling\.{side} {hint if 'is' in hint else '.*' + hint}"):
        tiny.latent_shape(*(pixels if name == side else 32 for name in ("height", "width")))


def test_full_hd_is_no_size_of_sd35():
    with pytest.raises(UsageError, match=r"sampling\.height is 1080.*multiples of 16 from 16 to 6144.*1072 or 1088"):
        SD35.latent_shape(1080, 1920)
