"""What the colour classifier gets to see."""

import numpy as np
import pytest
from PIL import Image

from rewards.errors import ScoringError
from rewards.geneval.crops import crop_object
from rewards.geneval.detections import Found


@pytest.fixture
def image():
    """8 wide, 6 high; each pixel says where it stands."""
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(8), np.arange(6)[:, None]
    return Image.fromarray(pixels)


def test_outside_the_mask_is_grey_also_inside_the_box(image):
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3] = True
    crop = np.asarray(crop_object(image, Found((3, 1, 5, 4), 1.0, mask)))
    grey = [153, 153, 153]
    assert crop.tolist() == [[grey, grey], [[3, 2, 0], grey], [[3, 3, 0], grey]]


def test_without_a_mask_the_box_is_cut_as_it_is(image):
    crop = np.asarray(crop_object(image, Found((1, 2, 3, 3), 1.0)))
    assert crop.tolist() == [[[1, 2, 0], [2, 2, 0]]]


def test_halves_are_rounded_to_the_even_side_as_pillow_does(image):
    found = Found((0.5, 1.5, 4.5, 5.4), 1.0)
    crop = crop_object(image, found)
    assert crop.size == (4, 3)
    assert np.asarray(crop)[0, 0].tolist() == [0, 2, 0]
    assert crop.tobytes() == image.crop(found.box).tobytes()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_modes_become_rgb(image, mode):
    crop = crop_object(image.convert("RGB").convert(mode), Found((0, 0, 2, 2), 1.0, np.ones((6, 8), bool)))
    assert crop.mode == "RGB"


def test_a_box_without_a_pixel_is_a_failed_image(image):
    with pytest.raises(ScoringError, match="holds no pixel"):
        crop_object(image, Found((2, 2, 2, 5), 1.0))


def test_a_mask_of_another_size_is_refused(image):
    with pytest.raises(ValueError, match="do not match"):
        crop_object(image, Found((0, 0, 2, 2), 1.0, np.ones((8, 6), bool)))
