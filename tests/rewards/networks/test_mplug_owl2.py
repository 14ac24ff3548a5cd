"""mPLUG-Owl2's network: sizes from its config, names of the published files, and the reference's values inside."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.errors import SetupError
from rewards.networks.mplug_owl2.language import Multiway, RmsNorm, rotate, turns
from rewards.networks.mplug_owl2.network import MplugOwl2
from rewards.networks.mplug_owl2.sizes import AbstractorSizes, LanguageSizes, Sizes, VisionSizes, read_sizes
from rewards.networks.mplug_owl2.vision import quick_gelu
from rewards.networks.preprocess import normalise
from rewards.weights.checkpoint import load_strictly, read_shards

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm" / "deqa"
SOURCE = Path("config.json")
PUBLISHED = Sizes(
    VisionSizes(width=1024, mlp=4096, layers=24, heads=16, size=448, patch=14, eps=1e-6),
    AbstractorSizes(queries=64, mlp=2816, layers=6, heads=16, eps=1e-6),
    LanguageSizes(vocabulary=32000, width=4096, mlp=11008, layers=32, heads=32, eps=1e-5, rope_theta=1e4),
)
TINY = LanguageSizes(vocabulary=8, width=8, mlp=8, layers=1, heads=2, eps=1e-5, rope_theta=100.0)


def build(sizes):
    with torch.device("meta"):
        return MplugOwl2(sizes)


@pytest.fixture
def config():
    return json.loads((GOLDEN / "config.json").read_text())


@pytest.fixture(scope="module")
def expected():
    return json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture(scope="module")
def inside():
    return np.load(GOLDEN / "intermediates.npz")


@pytest.fixture(scope="module")
def network():
    """The golden checkpoint in fp32."""
    network = build(read_sizes(json.loads((GOLDEN / "config.json").read_text()), SOURCE))
    load_strictly(network, read_shards(GOLDEN / "model.safetensors.index.json"), GOLDEN)
    return network.float()


def test_the_published_size_has_the_published_number_of_tensors():
    """862 with 8,204,550,144 elements: 419 of the language model, 295 of the ViT, 148 of the abstractor."""
    state = build(PUBLISHED).state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 8_204_550_144
    vision = sum("vision_model" in key for key in state)
    abstractor = sum("visual_abstractor" in key for key in state)
    assert (len(state) - vision - abstractor, vision, abstractor) == (419, 295, 148)


def test_sizes_are_read_from_the_config(config):
    assert read_sizes(config, SOURCE) == Sizes(
        VisionSizes(width=48, mlp=96, layers=3, heads=4, size=448, patch=14, eps=1e-6),
        AbstractorSizes(queries=64, mlp=80, layers=2, heads=4, eps=1e-6),
        LanguageSizes(vocabulary=512, width=64, mlp=176, layers=3, heads=4, eps=1e-5, rope_theta=1e4),
    )
    assert PUBLISHED.vision.tokens == 1025


@pytest.mark.parametrize("name", ["rms_norm_eps", "rope_theta", "vocab_size", "num_attention_heads"])
def test_nothing_that_moves_a_score_has_a_default(config, name):
    del config[name]
    with pytest.raises(SetupError, match=rf"config\.json does not say {name}"):
        read_sizes(config, SOURCE)


@pytest.mark.parametrize("part", ["visual_model", "visual_abstractor"])
@pytest.mark.parametrize("name", ["layer_norm_eps", "num_hidden_layers", "intermediate_size"])
def test_nor_in_the_vision_parts(config, part, name):
    del config["visual_config"][part][name]
    with pytest.raises(SetupError, match=f"does not say {name}"):
        read_sizes(config, SOURCE)


@pytest.mark.parametrize(
    ("name", "value"), [("rms_norm_eps", 0), ("rms_norm_eps", "1e-5"), ("hidden_size", 64.0), ("vocab_size", True)]
)
def test_numbers_that_cannot_be_are_refused(config, name, value):
    with pytest.raises(SetupError, match=rf"says {name}: {value!r}, which cannot be"):
        read_sizes(config | {name: value}, SOURCE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "llama"),
        ("hidden_act", "gelu"),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("attention_bias", True),
        ("tie_word_embeddings", True),
        ("num_key_value_heads", 2),
    ],
)
def test_other_networks_are_refused(config, name, value):
    with pytest.raises(SetupError, match=f"says {name}: .* reproduced here"):
        read_sizes(config | {name: value}, SOURCE)


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("visual_model", "hidden_act", "gelu", "only 'quick_gelu' is reproduced"),
        ("visual_model", "patch_size", 15, "448 pixels do not divide"),
        ("visual_model", "num_attention_heads", 5, "vision width 48 does not divide into 5"),
        ("visual_abstractor", "num_attention_heads", 5, "abstractor's width 48 does not divide into 5"),
        ("visual_abstractor", "grid_size", 16, "grid_size: 16; only 32"),
        ("visual_abstractor", "encoder_hidden_size", 64, "encoder_hidden_size: 64; only 48"),
    ],
)
def test_vision_parts_that_do_not_fit_are_refused(config, part, name, value, words):
    config["visual_config"][part][name] = value
    with pytest.raises(SetupError, match=words):
        read_sizes(config, SOURCE)


def test_a_config_of_something_else_is_a_sentence(config):
    for other in ({"model_type": "llama"}, config | {"visual_config": None}, config | {"num_attention_heads": 64}):
        with pytest.raises(SetupError, match=r"is not the config\.json of an mPLUG-Owl2|heads of an even width"):
            read_sizes(other, SOURCE)


def test_values_inside_are_those_of_the_reference(network, expected, inside):
    """A wrong order of the fused projection, a missing end of the image or swapped copies would show here."""
    ids = expected["input_ids"]
    place = ids.index(expected["image_token_index"])
    before, after = (network.embed_text(torch.tensor(part)) for part in (ids[:place], ids[place + 1 :]))
    for name in expected["images"]:
        key = name.replace(".", "_")
        pixels = normalise(Image.open(GOLDEN / "expected_448" / f"{key}.png"))[None]
        with torch.inference_mode():
            tokens = network.model["vision_model"](pixels)
            image = network.model["visual_abstractor"](tokens)
            state = network.read(before, image, after)
            logits = network.lm_head(state)
        seen = tokens[0, [0, 1, 513, 1024]].numpy()
        np.testing.assert_allclose(seen, inside[f"{key}__vision_tok0_1_513_1024"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(image[0].numpy(), inside[f"{key}__abstractor"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(state[0].numpy(), inside[f"{key}__final_hidden_last"], rtol=0, atol=5e-5)
        np.testing.assert_allclose(logits[0].numpy(), inside[f"{key}__logits_last"], rtol=0, atol=5e-5)


def test_only_what_computes_is_moved():
    sizes = Sizes(
        VisionSizes(width=8, mlp=8, layers=1, heads=2, size=28, patch=14, eps=1e-6),
        AbstractorSizes(queries=3, mlp=8, layers=1, heads=2, eps=1e-6),
        TINY,
    )
    network = MplugOwl2(sizes)
    network.place(torch.device("cpu"), torch.float16)
    left = {key for key, tensor in network.state_dict().items() if tensor.dtype == torch.float32}
    assert left == {"model.embed_tokens.weight", "lm_head.weight"}


def test_text_and_image_have_a_copy_each():
    layer: Any = Multiway(lambda: torch.nn.Linear(1, 1, bias=False))
    for copy, weight in zip(layer.multiway, (2.0, 3.0), strict=True):
        copy.weight.data.fill_(weight)
    assert layer(torch.ones(1, 5, 1), slice(1, 3)).flatten().tolist() == [2, 3, 3, 2, 2]


def test_the_norm_is_that_of_its_formula():
    norm = RmsNorm(2, eps=3.5)
    norm.weight.data = torch.tensor([1.0, 10.0])
    assert norm(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([3 / 4, 40 / 4])  # (9 + 16) / 2 + 3.5 = 16


def test_the_norm_is_fp32_inside():
    norm = RmsNorm(2, eps=1e-5).half()
    assert norm(torch.tensor([300.0, 400.0]).half()).tolist() == pytest.approx([0.8485, 1.1314], abs=1e-3)


def test_positions_are_turned_by_their_angles():
    """Head width 4, theta 100: position p turns the pairs (0, 2) and (1, 3) by p and p / 10."""
    turn = turns(3, TINY, torch.zeros(1))
    turned = rotate(torch.tensor([[1.0, 0.0, 0.0, 1.0]] * 3), turn)
    assert turned[0].tolist() == [1, 0, 0, 1]
    wanted = [math.cos(2), -math.sin(0.2), math.sin(2), math.cos(0.2)]
    assert turned[2].tolist() == pytest.approx(wanted, abs=1e-6)


def test_quick_gelu_by_hand():
    assert quick_gelu(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0, 1 / (1 + math.exp(-1.702))])
