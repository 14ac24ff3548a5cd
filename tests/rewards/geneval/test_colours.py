"""Colours against open_clip's own network, tokenizer and transform, put together as clip_benchmark does it."""

from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from rewards.clip.network import Activation, share_tower
from rewards.geneval.colours import TEMPLATES, Colours, describe_colours, find_tokens, share_colours
from rewards.geneval.objects import COLOURS

CPU = torch.device("cpu")
NAMES = ["cup", "orange", "cup", "stop sign", "bench", "cup"]
SHAPES = [(40, 40), (90, 31), (20, 77), (28, 28), (300, 200), (5, 9)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    sizes: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 7},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    }
    network: Any = open_clip.CLIP(**sizes, quick_gelu=True).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:  # biases stay 0, so that all depends on what is seen
            torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(network.positional_embedding)
    torch.nn.init.zeros_(network.visual.positional_embedding)
    return network


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    save_file({name: tensor.clone() for name, tensor in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def crops():
    generator = torch.Generator().manual_seed(2)
    noise = [torch.randint(0, 2, (3, 4, 3), generator=generator, dtype=torch.uint8) * 255 for _ in SHAPES]
    return [Image.fromarray(one.numpy()).resize(size) for one, size in zip(noise, SHAPES, strict=True)]


def colours_of(path, activation: Activation = "quickgelu"):
    tower = share_tower(path, None, CPU, torch.float32, activation)
    return Colours(tower, find_tokens([path], tower, hub=False))


def reference_logits(network, crop, name):
    """One crop: a classifier column a colour from the mean of three unit vectors, and 100 times its product."""
    transform: Any = image_transform_v2(PreprocessCfg(size=28), is_train=False)
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    with torch.no_grad():
        columns = []
        for colour in COLOURS:
            texts = [f"a photo of a {colour} {name}", f"a photo of a {colour}-colored {name}"]
            features = network.encode_text(tokenizer([*texts, f"a photo of a {colour} object"]))
            mean = (features / features.norm(dim=-1, keepdim=True)).mean(0)
            columns.append(mean / mean.norm())
        image = network.encode_image(transform(crop)[None])
        return 100 * (image / image.norm(dim=-1, keepdim=True)) @ torch.stack(columns, dim=1)


def test_logits_and_colours_are_those_of_open_clip(network, path, crops):
    wanted = torch.cat([reference_logits(network, crop, name) for crop, name in zip(crops, NAMES, strict=True)])
    ours = colours_of(path)
    torch.testing.assert_close(ours.logits(crops, NAMES).clone(), wanted, atol=1e-3, rtol=1e-5)
    assert ours.classify(crops, NAMES) == [COLOURS[index] for index in wanted.argmax(1)]
    assert len(set(ours.classify(crops, NAMES))) > 1


def test_plain_gelu_gives_other_numbers(path, crops):
    quick, plain = (colours_of(path, activation).logits(crops, NAMES) for activation in ("quickgelu", "gelu"))
    assert (quick - plain).abs().max() > 0.1


def test_crops_of_a_call_go_together_and_do_not_influence_each_other(path, crops):
    together = colours_of(path)
    batches = []
    together.tower.network.vision_model.register_forward_pre_hook(
        lambda *given: batches.append(len(given[2]["pixel_values"])), with_kwargs=True
    )
    together.tower.memory.forget()
    logits = together.logits(crops, NAMES).clone()
    assert batches == [len(crops)]
    together.tower.memory.forget()
    alone = [together.logits([crop], [name]) for crop, name in zip(crops, NAMES, strict=True)]
    torch.testing.assert_close(torch.cat(alone).clone(), logits, atol=1e-4, rtol=0)


def test_a_class_is_described_once(path, crops):
    colours = colours_of(path)
    asked = []
    tokens, colours.tokens = colours.tokens, lambda texts: (asked.extend(texts), tokens(texts))[1]
    colours.classify(crops[:2], ["cup", "cup"])
    colours.classify(crops[:3], ["cup", "dog", "cup"])
    each = len(COLOURS) * len(TEMPLATES) - len(COLOURS)  # "a photo of a red object" stands under every class
    assert len([text for text in asked if "cup" in text]) == len([text for text in asked if "dog" in text]) == each


def test_nothing_to_classify_is_nothing(path):
    assert colours_of(path).classify([], []) == []


def test_descriptions_are_spelt_as_published():
    assert describe_colours("bus")[:3] == [
        "a photo of a red bus",
        "a photo of a red-colored bus",
        "a photo of a red object",
    ]
    assert len(describe_colours("bus")) == 30


def test_equal_arguments_have_one_classifier(path):
    tower = share_tower(path, None, CPU, torch.float32, "quickgelu")
    tokens = find_tokens([path], tower, hub=False)
    assert share_colours(tower, tokens) is share_colours(tower, find_tokens([path], tower, hub=False))
