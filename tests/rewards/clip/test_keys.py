"""open_clip's own network is the truth: through our names it gives the same features, with either activation."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rewards.clip.keys import CONFIG_FILE, convert, describe, read_open_clip
from rewards.clip.network import ClipTower, share_tower
from rewards.errors import SetupError
from rewards.networks.preprocess import Way

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
CPU = torch.device("cpu")
SIZES = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 28, "layers": 3, "width": 128, "patch_size": 7},
    "text_cfg": {"context_length": 9, "vocab_size": 40, "width": 64, "heads": 1, "layers": 2},
}
START, END = 38, 39
IDS = torch.tensor([[START, 4, 5, END, 0, 0, 0, 0, 0], [START, 1, END, 7, 7, 7, 7, 7, 7]])


def build(quick_gelu=True, **changes):
    """A random network whose tensors are large enough for every one of them to matter."""
    torch.manual_seed(3)
    network = open_clip.CLIP(**{**SIZES, **changes}, quick_gelu=quick_gelu).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def pixels():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, (2, 28, 28, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(image.numpy()) for image in noise]


def ours(path, activation):
    tower = share_tower(path, None, CPU, torch.float32, activation)
    return tower.image_features(pixels(), Way("resize-first", 28)), tower.text_features(["one", "two"], lambda _: IDS)


def theirs(network):
    way = Way("resize-first", 28)
    with torch.no_grad():
        return network.encode_image(torch.stack([way(image) for image in pixels()])), network.encode_text(IDS)


@pytest.fixture
def saved(tmp_path):
    """The file of a network with random tensors, and that network with QuickGELU and with GELU."""
    network, plain = build(), build(quick_gelu=False)
    path = tmp_path / "open_clip_model.safetensors"
    save_file({name: tensor.clone() for name, tensor in network.state_dict().items()}, path)
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in network.state_dict().items())
    return path, network, plain


def agree(one, other):
    return all(torch.allclose(mine, yours, atol=1e-5, rtol=1e-5) for mine, yours in zip(one, other, strict=True))


def test_features_are_open_clips_with_either_activation_and_the_activations_differ(saved):
    path, quick, plain = saved
    assert agree(ours(path, "quickgelu"), theirs(quick))
    assert agree(ours(path, "gelu"), theirs(plain))
    for one, other in zip(ours(path, "quickgelu"), ours(path, "gelu"), strict=True):
        assert (one - other).abs().max() > 0.01


def test_every_tensor_has_a_place_and_every_place_a_tensor(saved):
    path, network, _ = saved
    state = read_open_clip(path)
    assert set(state) == set(network.state_dict())
    converted = convert(state)
    assert not [name for name in converted if "resblocks" in name]
    count = sum(tensor.numel() for tensor in network.state_dict().values())
    assert sum(tensor.numel() for tensor in converted.values()) == count


def test_sizes_are_read_from_the_shapes(saved):
    path, *_ = saved
    config = describe(read_open_clip(path), path)
    vision, text = config["vision_config"], config["text_config"]
    assert (vision["image_size"], vision["patch_size"], vision["num_hidden_layers"]) == (28, 7, 3)
    assert (vision["num_attention_heads"], text["num_attention_heads"]) == (2, 1)
    assert (text["vocab_size"], text["max_position_embeddings"], config["projection_dim"]) == (40, 9, 24)
    assert vision["hidden_act"] == text["hidden_act"] == "quick_gelu"


@pytest.mark.parametrize("wrapped", [True, False])
def test_plain_files_of_torch_load_too(saved, tmp_path, wrapped):
    _, network, _ = saved
    state = {**network.half().state_dict(), "input_resolution": 28, "context_length": 9, "vocab_size": 40}
    path = tmp_path / "ViT-L-14.pt"
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path)
    network.float()
    assert agree(ours(path, "quickgelu"), theirs(network))


def test_what_the_config_beside_it_says_of_heads_and_activation_counts(tmp_path):
    vision, text = {**SIZES["vision_cfg"], "head_width": 32}, {**SIZES["text_cfg"], "heads": 4}
    network = build(quick_gelu=False, vision_cfg=vision, text_cfg=text)
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save(network.state_dict(), path)
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0, 0, 0]}}))
    assert agree(ours(path, "published"), theirs(network))
    with pytest.raises(SetupError, match=r"activation gelu, and OpenAI's have quick_gelu.*choose activation=gelu"):
        share_tower(path, None, CPU, torch.float32, "quickgelu")


def test_a_config_of_more_than_a_plain_clip_is_refused(saved):
    path, *_ = saved
    config = {**SIZES, "vision_cfg": {**SIZES["vision_cfg"], "attentional_pool": True}}
    path.with_name(CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(SetupError, match=r"more than a plain CLIP: vision_cfg.attentional_pool"):
        ClipTower(path, None, CPU, torch.float32)
    path.with_name(CONFIG_FILE).write_text(json.dumps({"embed_dim": 24}))
    with pytest.raises(SetupError, match="needs embed_dim, vision_cfg and text_cfg"):
        ClipTower(path, None, CPU, torch.float32)


def test_missing_unknown_and_foreign_tensors_are_sentences(saved):
    path, network, _ = saved
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def refused(changed, words):
        save_file(changed, path)
        with pytest.raises(SetupError, match=words):
            ClipTower(path, None, CPU, torch.float32)

    refused({**state, "visual.transformer.resblocks.0.ls_1.gamma": torch.ones(3)}, r"unexpected visual.*ls_1\.gamma")
    refused({k: v for k, v in state.items() if k != "visual.ln_pre.bias"}, "lacks vision_model.pre_layrnorm.bias")
    refused({k: v for k, v in state.items() if k != "text_projection"}, "'text_projection' is missing")
    refused({"weight": torch.ones(3)}, "no visual.conv1.weight")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive_is_refused_as_loading_it_would_run_its_code(tmp_path):
    path = tmp_path / "ViT-L-14.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(SetupError, match=r"TorchScript archive.*plain state dict"):
        ClipTower(path, None, CPU, torch.float32)


def test_a_hub_folder_that_has_the_wanted_activation_is_the_same_tower_and_another_is_refused():
    def share(name, *activation):
        folder = GOLDEN / name
        return share_tower(folder / "model.safetensors", folder / "config.json", CPU, torch.float32, *activation)

    published = share("clipscore/clip")
    assert share("clipscore/clip", "quickgelu") is published
    plain = share("clipscore/clip", "gelu")
    assert plain is not published
    config: Any = plain.network.config
    assert config.vision_config.hidden_act == config.text_config.hidden_act == "gelu"
    with pytest.raises(SetupError, match=r"config.json is of a network with the activation gelu"):
        share("pickscore/model", "quickgelu")
    assert share("pickscore/model", "gelu") is share("pickscore/model")
