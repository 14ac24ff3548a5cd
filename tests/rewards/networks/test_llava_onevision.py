"""Crops, sizes and key names of LLaVA-OneVision, by hand and against the recorded original."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaOnevisionImageProcessorPil

from rewards.errors import SetupError
from rewards.networks.llava_onevision import choose_resolution, cut, describe, rename_key, unpad

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm"
FOLDER = GOLDEN / "unifiedreward" / "tiny_llava_qwen"
EXPECTED = json.loads((GOLDEN / "unifiedreward" / "expected_llava_qwen.json").read_text())
CONFIG = json.loads((FOLDER / "config.json").read_text())
GRID = CONFIG["image_grid_pinpoints"]
NAMES = [name for name in EXPECTED["cases"] if "double" not in name]


def picture(name):
    file, _, what = name.partition("|")
    image = Image.open(GOLDEN / "images" / file).convert("RGB")
    return image.resize((512, 512)) if what else image


@pytest.mark.parametrize("name", NAMES)
def test_crops_are_those_of_the_original(name):
    case = EXPECTED["cases"][name]
    recorded = np.load(GOLDEN / "unifiedreward" / "intermediates_llava_qwen.npz")
    key = name.replace(".", "_").replace("|", "_")
    image = picture(name)
    assert list(choose_resolution(image.size, GRID)) == case["best_resolution_wh"]
    crops = cut(image, GRID)
    assert len(crops) == case["num_crops"]
    assert crops[0, 1, 190].numpy() == pytest.approx(recorded[f"{key}__pixels_crop0_c1_row190"], abs=1e-6)
    assert crops[-1, 1, 190].numpy() == pytest.approx(recorded[f"{key}__pixels_lastcrop_c1_row190"], abs=1e-6)
    assert crops.abs().sum(dtype=torch.float64).item() == pytest.approx(case["pixel_sum_abs"], rel=1e-6)


@pytest.mark.parametrize("size", [(1, 900), (383, 385), (1000, 40), (2305, 2305), (3, 3)])
def test_odd_sizes_are_cut_as_transformers_does(size):
    """Sizes that were not recorded."""
    image = Image.fromarray(np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    processor = LlavaOnevisionImageProcessorPil(
        image_mean=[0.5] * 3, image_std=[0.5] * 3, image_grid_pinpoints=GRID, size={"height": 384, "width": 384}
    )
    theirs = torch.from_numpy(np.stack(processor(image, return_tensors="np")["pixel_values"])[0])
    assert (cut(image, GRID) - theirs).abs().max() < 1e-6


def test_the_smallest_resolution_that_keeps_all():
    assert choose_resolution((384, 384), GRID) == (384, 384)
    assert choose_resolution((385, 384), GRID) == (768, 384)
    assert choose_resolution((100, 50), GRID) == (384, 384)


def test_black_borders_are_left_out_of_the_features():
    """54 x 54 patches of 768 x 768 pixels; an image of 768 x 384 fills the middle 27 rows, and half a row stays."""
    picture = torch.arange(54.0).view(1, 54, 1).expand(1, 54, 54)
    assert unpad(picture, (768, 384))[0, :, 0].tolist() == list(range(13, 41))
    assert unpad(picture.transpose(1, 2), (384, 768))[0, 0].tolist() == list(range(13, 41))
    assert unpad(picture, (500, 500)).shape == (1, 54, 54)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
        ("model.layers.7.mlp.up_proj.weight", "model.language_model.layers.7.mlp.up_proj.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("model.image_newline", "model.image_newline"),
        ("model.mm_projector.0.weight", "model.multi_modal_projector.linear_1.weight"),
        (
            "model.vision_tower.vision_tower.vision_model.encoder.layers.3.mlp.fc1.bias",
            "model.vision_tower.encoder.layers.3.mlp.fc1.bias",
        ),
    ],
)
def test_keys(old, new):
    assert rename_key(old) == new


def some_state(rows=640, depth=26):
    """Sizes of the published tower, without its numbers."""
    with torch.device("meta"):
        layers = {
            f"model.vision_tower.encoder.layers.{n}.mlp.fc1.weight": torch.empty(4304, 1152) for n in range(depth)
        }
        return {
            "model.language_model.embed_tokens.weight": torch.empty(rows, 64),
            "model.vision_tower.embeddings.patch_embedding.weight": torch.empty(1152, 3, 14, 14),
            **layers,
        }


def test_sizes_are_those_of_the_tensors():
    """config.json says nothing of the tower, and its vocab_size is not always that of the file."""
    config: Any = describe({**CONFIG, "vocab_size": 152064}, some_state(rows=151647), FOLDER / "config.json")
    tower, text = config.vision_config, config.text_config
    assert (tower.num_hidden_layers, tower.num_attention_heads, tower.intermediate_size) == (26, 16, 4304)
    assert text.vocab_size == 151647
    assert text.rope_parameters == {"rope_type": "default", "rope_theta": 1e6}
    assert text.rms_norm_eps == 1e-6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mm_projector_type", "linear"),
        ("image_aspect_ratio", "pad"),
        ("mm_vision_select_layer", -1),
        ("mm_newline_position", "grid"),
        ("rope_scaling", {"type": "yarn"}),
        ("image_grid_pinpoints", "(1x1),...,(6x6)"),
    ],
)
def test_other_ways_of_reading_images_are_refused(name, value):
    with pytest.raises(SetupError, match=name):
        describe({**CONFIG, name: value}, some_state(), FOLDER / "config.json")


@pytest.mark.parametrize("name", ["rms_norm_eps", "rope_theta", "image_grid_pinpoints"])
def test_nothing_is_guessed(name):
    config = {key: value for key, value in CONFIG.items() if key != name}
    with pytest.raises(SetupError, match=f"no {name}"):
        describe(config, some_state(), FOLDER / "config.json")


def test_a_file_of_another_model_is_refused():
    with pytest.raises(SetupError, match="no llava_qwen checkpoint"):
        describe(CONFIG, {}, FOLDER / "config.json")
