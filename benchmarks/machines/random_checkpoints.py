"""Random weights in exactly the layouts in which the real ones are published.

They let tests and the speed comparison run without the published files: a reward that loads these loads those. Their
scores mean nothing. "full" has the published dimensions; "tiny" has others, none of which a reward may take for
granted.
"""

import json
import math
from collections.abc import Callable, Mapping
from itertools import chain, islice, product
from pathlib import Path
from typing import Any, Literal

import torch

from rewards.errors import UsageError, load_extra, suggestion
from rewards.networks.blip import BlipShape, RewardNetwork
from rewards.networks.preprocess import CLIP_MEAN, CLIP_STD

Size = Literal["tiny", "full"]
Shapes = Mapping[str, tuple[int, ...]]

_BLIP: dict[Size, BlipShape] = {
    "tiny": BlipShape(
        patch=20, image_tokens=65, vision_width=192, vision_layers=3, vision_mlp=320, vocabulary=5002, positions=64,
        text_width=48, text_layers=2, text_mlp=100, text_heads=3, text_eps=1e-12, activation="gelu",
        reward_widths=((0, (48, 40)), (2, (40, 24)), (4, (24, 1))),
    ),
    "full": BlipShape(
        patch=16, image_tokens=197, vision_width=1024, vision_layers=24, vision_mlp=4096, vocabulary=30524,
        positions=512, text_width=768, text_layers=12, text_mlp=3072, text_heads=12, text_eps=1e-12, activation="gelu",
        reward_widths=((0, (768, 1024)), (2, (1024, 128)), (4, (128, 64)), (6, (64, 16)), (7, (16, 1))),
    ),
}  # fmt: skip
_PROJECTION = {"tiny": 20, "full": 256}


def _tower(width: int, mlp: int, layers: int, heads: int, act: str, **more: int) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    return dict(zip(names, (width, mlp, layers, heads, act), strict=True)) | more


def _clip(embed: int, text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    text, vision = text | {"projection_dim": embed, "eos_token_id": 2}, vision | {"projection_dim": embed}
    return {"projection_dim": embed, "text_config": text, "vision_config": vision}


_CLIP_H: dict[Size, dict[str, Any]] = {
    "tiny": _clip(40, _tower(24, 60, 3, 3, "gelu"), _tower(48, 110, 3, 4, "gelu", patch_size=28)),
    "full": _clip(1024, _tower(1024, 4096, 24, 16, "gelu"), _tower(1280, 5120, 32, 16, "gelu", patch_size=14)),
}
_CLIP_L: dict[Size, dict[str, Any]] = {
    "tiny": _clip(36, _tower(16, 50, 3, 2, "quick_gelu"), _tower(60, 90, 3, 5, "quick_gelu", patch_size=16)),
    "full": _clip(
        768, _tower(768, 3072, 12, 12, "quick_gelu"), _tower(1024, 4096, 24, 16, "quick_gelu", patch_size=14)
    ),
}
_AESTHETIC: dict[Size, tuple[int, ...]] = {"tiny": (36, 30, 20, 10, 5, 1), "full": (768, 1024, 128, 64, 16, 1)}
_OPEN_CLIP: dict[Size, dict[str, Any]] = {
    "tiny": {
        "embed_dim": 28,
        "vision_cfg": {"image_size": 224, "layers": 3, "width": 60, "head_width": 20, "patch_size": 28},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 3},
    },
    "full": {
        "embed_dim": 1024,
        "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
    },
}


def write_checkpoint(name: str, folder: Path, size: Size = "tiny", seed: int = 0) -> Path:
    """Fill `folder` as --weights NAME=DIR wants it, and give it back; equal arguments give equal tensors.

    The CLIP of aesthetic and clipscore is the same; a folder `clip` that is already there (a link, say) is used.

    Raises:
        UsageError: there is no such reward with a network here.
    """
    if name not in _WRITERS:
        raise UsageError(f'No random weights can be made for "{name}".{suggestion(name, _WRITERS)}')
    folder.mkdir(parents=True, exist_ok=True)
    _WRITERS[name](folder, size, seed)
    return folder


def published_shapes(name: str, size: Size) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in the main file of a reward, drawn from nothing but its dimensions."""
    if name == "imagereward":
        return _blip_shapes(_BLIP[size], _PROJECTION[size])
    if name == "hpsv2":
        with torch.device("meta"):
            return _shapes_of(load_extra("open_clip", "openclip").CLIP(**_OPEN_CLIP[size]))
    if name == "aesthetic":
        widths = zip(_AESTHETIC[size], _AESTHETIC[size][1:], strict=False)
        layers = zip((0, 2, 4, 6, 7), widths, strict=True)
        parts = [(f"layers.{index}", given, made) for index, (given, made) in layers]
        return {key: s for at, i, o in parts for key, s in ((f"{at}.weight", (o, i)), (f"{at}.bias", (o,)))}
    return _clip_shapes({"pickscore": _CLIP_H, "clipscore": _CLIP_L}[name][size])


def draw_tensors(shapes: Shapes, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Random tensors of a size that keeps a network's activations near 1, so that its scores differ."""
    generator = torch.Generator().manual_seed(seed)
    return {key: _draw(key, shape, generator).to(dtype) for key, shape in shapes.items()}


def _draw(key: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if key.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape).clone()
    if key == "logit_scale":
        return torch.tensor(math.log(100))
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1 or key.endswith("class_embedding"):
        return noise * math.prod(shape[1:] or shape) ** -0.5
    return noise * 0.02 + (0 if key.endswith("bias") else 1)


def _write_imagereward(folder: Path, size: Size, seed: int) -> None:
    shape = _BLIP[size]
    torch.save(draw_tensors(published_shapes("imagereward", size), seed), folder / "ImageReward.pt")
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": shape.activation,
        "hidden_size": shape.text_width, "intermediate_size": shape.text_mlp, "layer_norm_eps": shape.text_eps,
        "num_attention_heads": shape.text_heads, "num_hidden_layers": shape.text_layers,
        "max_position_embeddings": shape.positions, "vocab_size": shape.vocabulary, "pad_token_id": 0,
        "encoder_width": 768, "add_cross_attention": True,
    }  # fmt: skip
    _write_json(folder / "med_config.json", config)
    words = islice(_bert_words(), shape.vocabulary - 2)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def _write_pickscore(folder: Path, size: Size, seed: int) -> None:
    _write_clip(folder, _CLIP_H[size], seed)
    _write_clip_tokenizer(folder)


def _write_clipscore(folder: Path, size: Size, seed: int) -> None:
    if not (folder / "clip").exists():
        _write_clip(folder / "clip", _CLIP_L[size], seed)
        _write_clip_tokenizer(folder / "clip")


def _write_aesthetic(folder: Path, size: Size, seed: int) -> None:
    tensors = draw_tensors(published_shapes("aesthetic", size), seed)
    torch.save(tensors, folder / "sac+logos+ava1-l14-linearMSE.pth")
    _write_clipscore(folder, size, seed)


def _write_hpsv2(folder: Path, size: Size, seed: int) -> None:
    tensors = draw_tensors(published_shapes("hpsv2", size), seed, torch.float16)
    torch.save({"state_dict": tensors}, folder / "HPS_v2.1_compressed.pt")
    if size != "full":
        _write_json(folder / "open_clip_config.json", _OPEN_CLIP[size])


_WRITERS: dict[str, Callable[[Path, Size, int], None]] = {
    "pickscore": _write_pickscore,
    "aesthetic": _write_aesthetic,
    "imagereward": _write_imagereward,
    "clipscore": _write_clipscore,
    "hpsv2": _write_hpsv2,
}


def _blip_shapes(shape: BlipShape, projection: int) -> dict[str, tuple[int, ...]]:
    """The network's and, as in the published file, those of two projections and an index that no score uses."""
    with torch.device("meta"):
        shapes = _shapes_of(RewardNetwork(shape))
    shapes["blip.text_encoder.embeddings.position_ids"] = (1, shape.positions)
    for name, width in (("vision_proj", shape.vision_width), ("text_proj", shape.text_width)):
        shapes |= {f"blip.{name}.weight": (projection, width), f"blip.{name}.bias": (projection,)}
    return shapes


def _clip_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """transformers' and the position_ids of older versions, which the published files hold."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        shapes = _shapes_of(CLIPModel(CLIPConfig(**config)))
    for tower in ("text_model", "vision_model"):
        positions = shapes[f"{tower}.embeddings.position_embedding.weight"][0]
        shapes[f"{tower}.embeddings.position_ids"] = (1, positions)
    return shapes


def _shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def _write_clip(folder: Path, config: dict[str, Any], seed: int) -> None:
    from safetensors.torch import save_file
    from transformers import CLIPConfig

    folder.mkdir(parents=True, exist_ok=True)
    CLIPConfig(**config).save_pretrained(folder)
    save_file(draw_tensors(_clip_shapes(config), seed), folder / "model.safetensors", {"format": "pt"})
    size = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
    steps = {f"do_{step}": True for step in ("convert_rgb", "resize", "center_crop", "rescale", "normalize")}
    colours = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "rescale_factor": 1 / 255}
    kind = {"image_processor_type": "CLIPImageProcessor"}
    _write_json(folder / "preprocessor_config.json", size | steps | colours | kind)


def _write_clip_tokenizer(folder: Path) -> None:
    """OpenAI's vocabulary and merges, from the file that open_clip carries, in the hub's form."""
    bpe = load_extra("open_clip.tokenizer", "openclip").SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    names = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {names.get(word, word): place for word, place in bpe.encoder.items()}
    _write_json(folder / "vocab.json", vocabulary, indent=None)
    merges = ["#version: 0.2", *(" ".join(pair) for pair in bpe.bpe_ranks)]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    _write_json(folder / "special_tokens_map.json", special)
    rest = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", special | rest)


def _bert_words() -> "chain[str]":
    """Words in the order of bert-base-uncased's kinds: special, characters, made-up syllables and their endings."""
    special = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    consonants, vowels = "bcdfghjklmnprstvwxyz", "aeiou"
    syllables = map("".join, product(consonants, vowels, consonants))
    longer = map("".join, product(consonants, vowels, consonants, vowels, consonants))
    return chain(special, characters, (f"##{character}" for character in characters), syllables, longer)


def _write_json(path: Path, content: object, indent: int | None = 2) -> None:
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
