"""The rewards as scorers in training code usually call them: one image and one prompt at a time, a network each.

Plain calls of transformers, open_clip and the network of ImageReward, with the originals' preprocessing and tokens;
what the speed comparison measures our rewards against, and a second opinion on their scores. Call them in `exactly`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from torch.nn.functional import normalize

from rewards.clip.hpsv2 import CHECKPOINT, CONFIG, build
from rewards.errors import load_extra
from rewards.imagereward.reward import MAX_TOKENS, MEAN, STD, UNUSED, read_tokenizer
from rewards.networks.blip import RewardNetwork, infer_shape
from rewards.networks.preprocess import pad_longest, resize_first, rgb_first
from rewards.weights.checkpoint import load_strictly, read_config, read_state

Judge: TypeAlias = Callable[[Image, str], float]


def read_pickscore(folder: Path, device: torch.device) -> Judge:
    network, tokenizer = _read_clip(folder, device)

    def judge(image: Image, text: str) -> float:
        cosine = (_see(network, image, device) * _read(network, tokenizer, text, device)).sum()
        return (network.logit_scale.exp() * cosine).item()

    return judge


def read_clipscore(folder: Path, device: torch.device) -> Judge:
    """As transformers prepares images and texts; for square RGB images and plain words that is the default, too."""
    network, tokenizer = _read_clip(folder / "clip", device)

    def judge(image: Image, text: str) -> float:
        return (_see(network, image, device) * _read(network, tokenizer, text, device)).sum().item()

    return judge


def read_aesthetic(folder: Path, device: torch.device) -> Judge:
    network, _ = _read_clip(folder / "clip", device)
    state = torch.load(folder / "sac+logos+ava1-l14-linearMSE.pth", device, weights_only=True)
    layers = [(state[f"layers.{index}.weight"], state[f"layers.{index}.bias"]) for index in (0, 2, 4, 6, 7)]

    def judge(image: Image, text: str) -> float:
        x = _see(network, image, device)
        for weight, bias in layers:
            x = torch.nn.functional.linear(x, weight, bias)
        return x.item()

    return judge


def read_imagereward(folder: Path, device: torch.device) -> Judge:
    """Texts are filled up to 35 tokens, as in the original."""
    path = folder / "ImageReward.pt"
    state = read_state(path)
    shape = infer_shape(state, read_config(folder / "med_config.json"), path)
    network = RewardNetwork(shape)
    load_strictly(network, state, path, UNUSED)
    network.to(device)
    tokenizer = read_tokenizer(folder / "vocab.txt", shape.vocabulary, path)
    tokenizer.enable_padding(length=MAX_TOKENS)

    def judge(image: Image, text: str) -> float:
        tokens = tokenizer.encode(text)
        ids = torch.tensor([tokens.ids], device=device)
        mask = torch.tensor([tokens.attention_mask], dtype=torch.bool, device=device)
        seen = network.encode_image(resize_first(image, shape.image_size)[None].to(device))
        return ((network.score(seen, ids, mask) - MEAN) / STD).item()

    return judge


def read_hpsv2(folder: Path, device: torch.device) -> Judge:
    path, config = folder / CHECKPOINT, folder / CONFIG
    network = build(path, config if config.exists() else None)
    load_strictly(network, read_state(path)["state_dict"], path)  # type: ignore[arg-type]
    network.to(device, torch.float32)
    tokenizer = load_extra("open_clip.tokenizer", "openclip").SimpleTokenizer(context_length=network.context_length)

    def judge(image: Image, text: str) -> float:
        pixels = pad_longest(image, network.visual.image_size[0], antialias=True)[None].to(device)
        seen = network.encode_image(pixels, normalize=True)
        return (seen * network.encode_text(tokenizer([text]).to(device), normalize=True)).sum().item()

    return judge


PLAIN: dict[str, Callable[[Path, torch.device], Judge]] = {
    "pickscore": read_pickscore,
    "aesthetic": read_aesthetic,
    "imagereward": read_imagereward,
    "clipscore": read_clipscore,
    "hpsv2": read_hpsv2,
}


def _read_clip(folder: Path, device: torch.device) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPTokenizer

    network = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return network.to(device).eval(), tokenizer  # type: ignore[arg-type]


def _see(network: Any, image: Image, device: torch.device) -> torch.Tensor:
    """The image's unit vector [1, D]."""
    pixels = rgb_first(image, network.config.vision_config.image_size)[None].to(device)
    return normalize(network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output))


def _read(network: Any, tokenizer: Any, text: str, device: torch.device) -> torch.Tensor:
    """The text's unit vector [1, D]."""
    ids = tokenizer(text, truncation=True, max_length=77, return_tensors="pt").input_ids.to(device)
    return normalize(network.text_projection(network.text_model(input_ids=ids).pooler_output))
