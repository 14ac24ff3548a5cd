"""BLIP's network: its sizes come from the files, and each part does what its formula says."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.machines.random_checkpoints import draw_tensors, published_shapes
from rewards.errors import SetupError
from rewards.networks.blip import ACTIVATIONS, BlipShape, RewardHead, RewardNetwork, TextEncoder, attend, infer_shape

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family" / "imagereward"
SOURCE = Path("ImageReward.pt")
UNUSED = {"vision_proj", "text_proj"}


@pytest.fixture(scope="module")
def state():
    return torch.load(GOLDEN / "ImageReward.pt", weights_only=True)


@pytest.fixture(scope="module")
def config():
    return json.loads((GOLDEN / "med_config.json").read_text())


@pytest.fixture(scope="module")
def shape():
    return BlipShape(
        patch=4, image_tokens=10, vision_width=64, vision_layers=2, vision_mlp=20, vocabulary=30, positions=12,
        text_width=8, text_layers=2, text_mlp=12, text_heads=2, text_eps=1e-12, activation="gelu",
        reward_widths=((0, (8, 3)), (2, (3, 1))),
    )  # fmt: skip


@pytest.fixture
def network(shape):
    network = RewardNetwork(shape)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    network.load_state_dict(draw_tensors(shapes, seed=1))
    return network.eval().requires_grad_(False)


def test_sizes_are_read_from_the_checkpoint_and_its_config(state, config):
    shape = infer_shape(state, config, SOURCE)
    assert shape == BlipShape(
        patch=16, image_tokens=197, vision_width=128, vision_layers=2, vision_mlp=512, vocabulary=30524, positions=512,
        text_width=12, text_layers=3, text_mlp=40, text_heads=2, text_eps=1e-12, activation="gelu",
        reward_widths=((0, (12, 1024)), (2, (1024, 128)), (4, (128, 64)), (6, (64, 16)), (7, (16, 1))),
    )  # fmt: skip
    assert shape.image_size == 224
    assert shape.vision_heads == 2


def test_the_network_has_the_names_of_the_published_file(state, config):
    with torch.device("meta"):
        network = RewardNetwork(infer_shape(state, config, SOURCE))
    ours = {key: tensor.shape for key, tensor in network.state_dict().items()}
    theirs = {key: tensor.shape for key, tensor in state.items()}
    unused = {key for key in theirs if key not in ours}
    assert ours.items() <= theirs.items()
    assert unused == {"blip.text_encoder.embeddings.position_ids"} | {
        f"blip.{name}.{part}" for name in UNUSED for part in ("weight", "bias")
    }


def test_the_published_size_has_the_published_number_of_parameters():
    """446,665,953 in 625 tensors, counted in the reference at full size, position numbers aside."""
    shapes = published_shapes("imagereward", "full")
    assert len(shapes) == 625
    assert sum(math.prod(shape) for key, shape in shapes.items() if "position_ids" not in key) == 446_665_953


def test_the_encoder_width_of_the_config_is_not_believed(state, config):
    assert config["encoder_width"] == 768
    assert infer_shape(state, config | {"encoder_width": 1}, SOURCE) == infer_shape(state, config, SOURCE)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("blip.visual_encoder.pos_embed", torch.zeros(1, 196, 128), "196 image tokens are no square grid"),
        ("blip.visual_encoder.pos_embed", torch.zeros(196, 128), "and not 3 dimensions"),
        ("blip.visual_encoder.pos_embed", None, "has no blip.visual_encoder.pos_embed"),
        ("blip.visual_encoder.patch_embed.proj.weight", torch.zeros(100, 3, 16, 16), "100 does not divide into heads"),
        ("mlp.layers.2.weight", torch.zeros(128, 5), "do not lead from 12 to 1"),
        ("mlp.layers.7.weight", torch.zeros(2, 16), "do not lead from 12 to 1"),
    ],
)
def test_a_checkpoint_that_makes_no_network_is_refused(state, config, key, value, words):
    broken = {name: tensor for name, tensor in state.items() if name != key}
    if value is not None:
        broken[key] = value
    with pytest.raises(SetupError, match=words):
        infer_shape(broken, config, SOURCE)


def test_a_checkpoint_without_head_is_refused(state, config):
    towers = {key: tensor for key, tensor in state.items() if key.startswith("blip.")}
    with pytest.raises(SetupError, match=r"no mlp\.layers"):
        infer_shape(towers, config, SOURCE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_attention_heads": 5}, "12 does not divide into 5 heads"),
        ({"num_attention_heads": 0}, "0 heads"),
        ({"num_attention_heads": None}, "num_attention_heads: None"),
        ({"num_attention_heads": "2"}, "num_attention_heads: '2'"),
        ({"layer_norm_eps": True}, "layer_norm_eps: True"),
        ({"hidden_act": "geluu"}, 'activation "geluu" is not known here. Did you mean "gelu"'),
        ({"hidden_size": 768}, "hidden_size: 768, the checkpoint has 12"),
        ({"num_hidden_layers": 12}, "num_hidden_layers: 12, the checkpoint has 3"),
        ({"intermediate_size": 3072}, "intermediate_size: 3072, the checkpoint has 40"),
    ],
)
def test_a_config_of_something_else_is_refused(state, config, change, words):
    with pytest.raises(SetupError, match=words):
        infer_shape(state, config | change, SOURCE)


def test_attention_is_the_softmax_of_scaled_products():
    """One head of width 1: products 0 and ln 3 give weights 1/4 and 3/4."""
    query, key = torch.tensor([[[1.0]]]), torch.tensor([[[0.0], [math.log(3)]]])
    value = torch.tensor([[[4.0], [8.0]]])
    assert attend(query, key, value, 1).item() == pytest.approx(0.25 * 4 + 0.75 * 8)
    masked = attend(query, key, value, 1, torch.tensor([[[[True, False]]]]))
    assert masked.item() == pytest.approx(4)


def test_heads_are_consecutive_slices_of_the_width():
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 5, 6, generator=draw) for _ in range(3))
    parts = [[x[..., at : at + 2] for x in (query, key, value)] for at in (0, 2, 4)]
    slices = [attend(query, key, value, 1) for query, key, value in parts]
    torch.testing.assert_close(attend(query, key, value, 3), torch.cat(slices, dim=-1))


def test_the_head_is_its_layers_and_nothing_between(shape):
    head = RewardHead(shape)
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    layers: Any = head.layers
    first, last = layers["0"], layers["2"]
    expected = (x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(head(x), expected)


def test_padding_changes_no_score(network):
    draw = torch.Generator().manual_seed(2)
    image = torch.randn(2, 10, 64, generator=draw)
    ids = torch.randint(30, (2, 5), generator=draw)
    short = network.score(image, ids, torch.ones(2, 5, dtype=torch.bool))
    padded = torch.cat([ids, torch.full((2, 4), 7)], dim=1)
    mask = torch.arange(9).expand(2, 9) < 5
    torch.testing.assert_close(network.score(image, padded, mask), short, rtol=0, atol=1e-6)
    unmasked = network.score(image, padded, torch.ones_like(mask))
    assert (unmasked - short).abs().min() > 1e-3


def test_the_first_token_sees_the_last_and_the_image(network):
    """No causal mask, and cross-attention to every image token."""
    draw = torch.Generator().manual_seed(3)
    image, ids = torch.randn(1, 10, 64, generator=draw), torch.tensor([[3, 4, 5, 6]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    text = network.blip["text_encoder"]
    before = text(ids, mask, image)[:, 0]
    assert (text(torch.tensor([[3, 4, 5, 9]]), mask, image)[:, 0] - before).abs().max() > 1e-3
    other = image.clone()
    other[:, 9] += 1
    assert (text(ids, mask, other)[:, 0] - before).abs().max() > 1e-3


def test_patches_are_read_row_by_row(network):
    """The third patch of the second row is token 1 + 3 + 2."""
    encoder = network.blip["visual_encoder"]
    encoder.blocks = torch.nn.ModuleList()
    pixels = torch.zeros(1, 3, 12, 12)
    blank = network.encode_image(pixels)
    pixels[..., 4:8, 8:12] = 1
    changed = (network.encode_image(pixels) - blank).abs().amax(dim=2)[0]
    assert changed.nonzero().flatten().tolist() == [6]


def test_the_activation_is_the_one_the_config_names(shape):
    draw = torch.Generator().manual_seed(4)
    ids, image = torch.tensor([[1, 2]]), torch.randn(1, 10, 64, generator=draw)
    mask = torch.ones_like(ids, dtype=torch.bool)
    results = []
    for name in ACTIVATIONS:
        text = TextEncoder(replace(shape, activation=name))
        shapes = {key: tuple(tensor.shape) for key, tensor in text.state_dict().items()}
        text.load_state_dict(draw_tensors(shapes, seed=5))
        results.append(text(ids, mask, image))
    exact, tanh, relu = results
    assert 0 < (exact - tanh).abs().max() < 1e-2 < (exact - relu).abs().max()


def test_nothing_is_dropped_in_training_mode(network):
    image, ids = torch.randn(1, 10, 64), torch.tensor([[1, 2]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    assert torch.equal(network.train().score(image, ids, mask), network.eval().score(image, ids, mask))
