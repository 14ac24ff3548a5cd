import math

import numpy as np
import pytest
from PIL import Image

from rewards.errors import ScoringError, UsageError
from rewards.imagestats.reward import colour_entropy, dark_share, edge_density, luma, rgb_pixels
from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from rewards.registry import check_trainable, load


def grey(rows):
    return np.repeat(np.array(rows, dtype=np.uint8)[:, :, None], 3, axis=2)


def test_luma_of_pure_colours():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    assert luma(pixels)[0] == pytest.approx([0.299, 0.587, 0.114, 1.0])


def test_dark_share_counts_pixels_below_a_tenth():
    assert dark_share(grey([[0, 25], [26, 255]])) == 0.5  # 25/255 = 0.098, 26/255 = 0.102
    blue = np.array([[[0, 0, 200], [0, 0, 255]]], dtype=np.uint8)  # luma 0.089 and 0.114
    assert dark_share(blue) == 0.5


def test_edge_density_of_a_step_is_one_on_the_two_columns_beside_it():
    assert edge_density(grey([[0, 0, 255, 255]] * 5)) == pytest.approx(0.5)
    assert edge_density(grey([[0, 0, 255, 255]] * 5).transpose(1, 0, 2)) == pytest.approx(0.5)
    assert edge_density(grey([[0] * 20 + [255] * 20])) == pytest.approx(2 / 40)


def test_edge_density_of_a_point_by_hand():
    """A point of luma 1 in a field of 0: 4 neighbours feel 2/4, 4 diagonal ones sqrt(2)/4, the point itself nothing."""
    field = np.zeros((5, 5))
    field[2, 2] = 255
    assert edge_density(grey(field)) == pytest.approx((4 * 0.5 + 4 * math.sqrt(2) / 4) / 25)


def test_edge_density_of_a_flat_or_single_pixel_image_is_nothing():
    assert edge_density(grey([[77] * 7] * 3)) == pytest.approx(0, abs=1e-12)
    assert edge_density(grey([[200]])) == pytest.approx(0, abs=1e-12)


def test_colour_entropy_by_hand():
    assert colour_entropy(grey([[7, 7], [7, 7]])) == 0.0
    assert colour_entropy(grey([[0, 15], [240, 255]])) == 1.0  # two cells of 16 steps
    four = np.array([[[0, 0, 0], [16, 0, 0], [0, 16, 0], [0, 0, 16]]], dtype=np.uint8)
    assert colour_entropy(four) == 2.0
    assert colour_entropy(grey([[0, 0, 0, 255]])) == pytest.approx(2 - 0.75 * math.log2(3))


def test_colour_entropy_of_every_cell_once_is_twelve_bits():
    steps = np.arange(4096)
    every = np.stack([steps // 256, steps // 16 % 16, steps % 16], axis=-1).astype(np.uint8) * 16
    assert colour_entropy(every.reshape(64, 64, 3)) == 12.0


@pytest.mark.parametrize(("mode", "kind"), [("F", "floating point"), ("I", "32-bit"), ("LAB", "the kind LAB")])
def test_pixels_without_a_known_white_are_a_failed_score(mode, kind):
    (score,) = load(parse_rewards(["imagestats.dark"])[0]).score([Image.new(mode, (3, 2))], [Prompt("anything")])
    assert score.value is None
    assert kind in score.reason


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("name", ["imagestats.dark", "imagestats.edges", "imagestats.colours"])
def test_any_mode_and_size_is_scored(mode, name):
    reward = load(parse_rewards([name])[0])
    image = Image.new(mode, (3, 2))
    (score,) = reward.score([image], [Prompt("anything")])
    low, high = reward.card.bounds
    assert score.value is not None
    assert low is not None
    assert high is not None
    assert low <= score.value <= high


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_an_empty_image_fails(size):
    with pytest.raises(ScoringError, match="empty"):
        rgb_pixels(Image.new("RGB", size))
    for spec in parse_rewards(["imagestats"]):
        (score,) = load(spec).score([Image.new("RGB", size)], [Prompt("x")])
        assert score.value is None
        assert "empty" in score.reason


def test_detail_says_what_was_measured():
    # columns 0 0 255 255: a step of 1 on the two columns beside it; two colours, half of the pixels each
    image = Image.fromarray(grey([[0, 0, 255, 255]] * 6))
    details = [load(spec).score([image], [Prompt("x")])[0].detail for spec in parse_rewards(["imagestats"])]
    assert details == [
        "12 of 24 pixels",
        "strongest 1.000 at row 0, column 1",
        "2 of 4096 cells; 50.0% are near #000000",
    ]


def test_detail_names_the_most_frequent_colour_as_the_mean_of_its_cell():
    pixels = np.array([[[255, 0, 18], [255, 0, 20], [10, 200, 10]]], dtype=np.uint8)
    (score,) = load(parse_rewards(["imagestats.colours"])[0]).score([Image.fromarray(pixels)], [Prompt("x")])
    assert score.detail == "2 of 4096 cells; 66.7% are near #ff0013"


def test_no_mix_takes_them():
    check_trainable(parse_rewards(["ocr"]))
    with pytest.raises(UsageError, match=r"imagestats.dark@1 describes images .* alone or in a mix"):
        check_trainable(parse_rewards(["ocr=0.8", "imagestats.dark=0.2"]))
    with pytest.raises(
        UsageError, match=r"imagestats.dark@1, imagestats.edges@1, imagestats.colours@1 describe images"
    ):
        check_trainable(parse_rewards(["imagestats"]))
