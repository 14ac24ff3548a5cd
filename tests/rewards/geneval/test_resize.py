"""OpenCV's own bytes, and OpenCV itself where it is installed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewards.geneval.resize import resize

GOLDEN = Path(__file__).parents[2] / "golden/geneval/detector"


@pytest.mark.parametrize(
    ("name", "width", "height", "sha256"),
    [  # cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR) of OpenCV 5.0.0
        ("sq512", 800, 800, "1a49dbce632c7111d42b225b2c5bde9e2c6f7a38eae0d2ce880fcd47c1dec8cc"),
        ("land", 1199, 800, "16f4b785ad90e9548856f82b88057bc173aef50ce7bfb276909c4e2b9549fec3"),
        ("tall", 495, 1333, "33cd56138f2a1fa8f329059422e308a1936ad3b78f02651da000fd789d0e4679"),
        ("sq512", 300, 277, "cb31957d909377f513b1b388762a0b2cf4dda61683e5bffbaacf468ac2ec969d"),
    ],
)
def test_recorded_bytes_of_opencv(name, width, height, sha256):
    pixels = np.asarray(Image.open(GOLDEN / f"{name}.png").convert("RGB"))
    resized = resize(pixels, width, height)
    assert resized.shape == (height, width, 3)
    assert hashlib.sha256(resized.tobytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    "size", [(1, 1, 5, 3), (1, 7, 4, 4), (9, 1, 2, 6), (2, 2, 1, 1), (64, 64, 64, 64), (80, 60, 40, 30)]
)
def test_small_halved_and_unchanged_sizes_equal_opencv(size):
    cv2 = pytest.importorskip("cv2")
    height, width, new_height, new_width = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize(pixels, new_width, new_height), expected.reshape(new_height, new_width, 3))


def test_random_sizes_equal_opencv():
    cv2 = pytest.importorskip("cv2")
    draw = np.random.default_rng(1)
    for _ in range(60):
        height, width, new_height, new_width = (int(size) for size in draw.integers(1, 200, 4))
        pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        got = resize(pixels, new_width, new_height)
        assert np.array_equal(got, expected.reshape(got.shape)), (height, width, new_height, new_width)


def test_only_8_bit_pictures():
    with pytest.raises(ValueError, match="8-bit"):
        resize(np.zeros((4, 4, 3), np.float32), 8, 8)
