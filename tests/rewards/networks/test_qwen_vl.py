"""What Qwen's towers see: sizes by hand and against the recorded original, patches in the tower's order."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rewards.errors import ScoringError, SetupError
from rewards.networks.qwen_vl import Eye, read_eye

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm"
EXPECTED = json.loads((GOLDEN / "unifiedreward" / "expected_qwen25vl.json").read_text())
SOURCE = GOLDEN / "unifiedreward" / "tiny_qwen25vl" / "preprocessor_config.json"
SETTINGS = json.loads(SOURCE.read_text())
EYE = read_eye(SETTINGS, SOURCE)


@pytest.mark.parametrize("name", EXPECTED["cases"])
def test_patches_are_those_of_the_original(name):
    case = EXPECTED["cases"][name]
    recorded = np.load(GOLDEN / "unifiedreward" / "intermediates_qwen25vl.npz")
    image = Image.open(GOLDEN / "images" / name).convert("RGB")
    assert list(EYE.fit(image.size)) == case["resized_wh"]
    patches, grid = EYE(image)
    assert grid.tolist() == [case["image_grid_thw"]]
    rows = recorded[f"{name.replace('.', '_')}__pixel_values_rows0_7"]
    assert np.abs(patches[[0, 7]].numpy() - rows).max() < 1e-5
    assert patches.abs().sum(dtype=torch.float64).item() == pytest.approx(case["pixel_sum_abs"], rel=1e-6)


def test_qwen3_numbers_give_the_order_that_transformers_gives():
    """Not compared with its original; at least the same patches, where nothing is resized."""
    eye = Eye(16, 2, 2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (96, 160, 3), dtype=np.uint8))
    assert eye.fit(image.size) == image.size
    theirs = Qwen2VLImageProcessorPil(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=False)
    batch = theirs(image, return_tensors="pt")
    patches, grid = eye(image)
    assert torch.equal(grid, batch["image_grid_thw"])
    assert (patches - batch["pixel_values"]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((512, 512), (504, 504)),  # 18.29 steps
        ((28, 28), (56, 56)),  # four steps at least
        ((10, 400), (28, 392)),
        ((8000, 4000), (5068, 2520)),  # 16384 steps at most: scale sqrt(32e6 / 12845056) = 1.5784
    ],
)
def test_sizes_are_whole_steps(size, fitted):
    assert EYE.fit(size) == fitted


def test_a_ribbon_is_refused():
    with pytest.raises(ScoringError, match="elongated"):
        EYE.fit((2010, 10))


@pytest.mark.parametrize(("name", "value"), [("resample", 2), ("do_normalize", False), ("patch_size", None)])
def test_other_ways_of_preparing_are_refused(name, value):
    with pytest.raises(SetupError, match=r"preprocessor_config\.json"):
        read_eye({**SETTINGS, name: value}, SOURCE)
