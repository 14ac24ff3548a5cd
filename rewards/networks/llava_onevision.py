"""LLaVA-OneVision as its authors' code writes it (llava_qwen), in transformers' LlavaOnevisionForConditionalGeneration.

The language model, the SigLIP tower and the projector are transformers'; how an image is cut into crops and how their
features become a sequence is written out here, as in the authors' code (LLaVA-NeXT; Li et al. 2024, arXiv 2408.03326).
transformers' own processor resizes by torchvision, which moves logits by 1e-3, and normalises by CLIP's numbers unless
told otherwise.

Shapes: N crops, the whole image first; P = 27 patches a side of a crop; S embeddings of an image; D their width.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image as PIL
from PIL.Image import Image, Resampling
from torch.nn.functional import interpolate
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

from rewards.errors import SetupError
from rewards.networks.preprocess import normalise

MODEL_TYPES = ("llava", "llava_qwen")
CROP, PATCH, HEAD_WIDTH = 384, 14, 72
MEAN = STD = (0.5, 0.5, 0.5)
MAX_CROPS = 9  # of anyres_max_9: features of more are scaled down
_SMALLEST_SHRINK = 1.1
_TOWER = "model.vision_tower.vision_tower.vision_model."
_RENAMED = (
    (_TOWER, "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.image_newline", "model.image_newline"),
    ("model.", "model.language_model."),
    ("lm_head.", "lm_head."),
)
# What the code below does; a folder that was trained to be read otherwise is refused.
_EXPECTED = {
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "spatial_unpad",
    "image_aspect_ratio": "anyres_max_9",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_newline_position": "one_token",
}
_OPTIONAL = {"mm_newline_position": "one_token", "rope_scaling": None, "use_sliding_window": False}
_TEXT = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "rms_norm_eps", "rope_theta", "max_position_embeddings",
)  # fmt: skip


def rename_key(key: str) -> str:
    """A key on disk as transformers 5 names it.

    >>> rename_key("model.mm_projector.2.bias"), rename_key("model.norm.weight")
    ('model.multi_modal_projector.linear_2.bias', 'model.language_model.norm.weight')
    """
    for old, new in _RENAMED:
        if key.startswith(old):
            return new + key[len(old) :]
    return key


def describe(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], source: Path) -> LlavaOnevisionConfig:
    """transformers' configuration of a llava_qwen folder; sizes of tower and vocabulary are those of the tensors.

    Args:
        state: with the keys renamed.

    Raises:
        SetupError: config.json asks for something that is not done here, or says too little.
    """
    found = {**_OPTIONAL, **config}
    odd = [
        f"{name} = {found.get(name)}" for name, value in {**_EXPECTED, **_OPTIONAL}.items() if found.get(name) != value
    ]
    absent = [name for name in (*_TEXT, "image_grid_pinpoints") if name not in config]
    grid = config.get("image_grid_pinpoints")
    if not isinstance(grid, list):
        odd.append(f"image_grid_pinpoints = {grid}")
    if odd or absent:
        lack = [f"it has no {', '.join(absent)}"] if absent else []
        reason = "; ".join([*lack, *(["it asks for " + ", ".join(odd)] if odd else [])])
        raise SetupError(f"{source} is not of a LLaVA-OneVision that is reproduced here: {reason}.")
    try:
        rows = state["model.language_model.embed_tokens.weight"].shape[0]
        width = state["model.vision_tower.embeddings.patch_embedding.weight"].shape[0]
        inner = state["model.vision_tower.encoder.layers.0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise SetupError(f"{source.parent} holds no llava_qwen checkpoint: it lacks {error.args[0]}.") from error
    depth = len({key.split(".")[4] for key in state if key.startswith("model.vision_tower.encoder.layers.")})
    text = {name: config[name] for name in _TEXT if name != "rope_theta"}
    return LlavaOnevisionConfig(
        text_config=Qwen2Config(
            **text,
            vocab_size=rows,
            hidden_act=config.get("hidden_act", "silu"),
            rope_parameters={"rope_type": "default", "rope_theta": float(config["rope_theta"])},
            tie_word_embeddings=False,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=depth,
            num_attention_heads=width // HEAD_WIDTH,
            image_size=CROP,
            patch_size=PATCH,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-6,
            vision_use_head=False,
        ),
        image_grid_pinpoints=grid,
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )


def cut(image: Image, grid: Sequence[Sequence[int]]) -> torch.Tensor:
    """Crops of an RGB image, normalised [N, 3, 384, 384]: the whole squashed to a square, then row by row."""
    wide, high = choose_resolution(image.size, grid)
    width, height = _fit(image.size, (wide, high))
    canvas = PIL.new("RGB", (wide, high))
    canvas.paste(image.resize((width, height), Resampling.BICUBIC), ((wide - width) // 2, (high - height) // 2))
    corners = [(left, top) for top in range(0, high, CROP) for left in range(0, wide, CROP)]
    crops = [canvas.crop((left, top, left + CROP, top + CROP)) for left, top in corners]
    whole = image.resize((CROP, CROP), Resampling.BICUBIC)
    return torch.stack([normalise(crop, MEAN, STD) for crop in (whole, *crops)])


def choose_resolution(size: tuple[int, int], grid: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Of the trained resolutions (width, height), the one that keeps most of the image, then wastes least.

    >>> choose_resolution((512, 512), [(384, 384), (384, 768), (768, 384), (768, 768)])
    (768, 768)
    """
    width, height = size

    def kept(wide: int, high: int) -> int:
        scale = min(wide / width, high / height)
        return min(int(width * scale) * int(height * scale), width * height)

    best = max(grid, key=lambda pair: (kept(*pair), kept(*pair) - pair[0] * pair[1]))
    return best[0], best[1]


def embed_image(
    network: LlavaOnevisionForConditionalGeneration, crops_N3HW: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """What the language model sees of an image, [S, D]: the whole, then the crops as one picture with ends of rows.

    The tower's layers stop before its last norm, which was never trained with this model.

    Args:
        size: width and height of the image that the crops were cut from.
    """
    model = network.model
    embedded = model.vision_tower.embeddings(crops_N3HW)
    seen = model.vision_tower.encoder(inputs_embeds=embedded).last_hidden_state
    features_NLD = model.multi_modal_projector(seen)
    grid = cast(list[list[int]], network.config.image_grid_pinpoints)
    picture_DHW = unpad(_join(features_NLD[1:], choose_resolution(size, grid)), size)
    picture_DHW = _shrink(picture_DHW)
    newline = model.image_newline[:, None, None].expand(-1, picture_DHW.shape[1], 1).to(picture_DHW.dtype)
    rows_DS = torch.cat([picture_DHW, newline], 2).flatten(1)
    return torch.cat([features_NLD[0], rows_DS.T])


def unpad(picture_DHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Without the patches that saw nothing but the black borders; odd remainders stay, as in the original."""
    width, height = size
    across, down = picture_DHW.shape[2], picture_DHW.shape[1]
    if width / height > across / down:
        border = (down - int(height * (across / width))) // 2
        return picture_DHW[:, border : down - border]
    border = (across - int(width * (down / height))) // 2
    return picture_DHW[:, :, border : across - border]


def _fit(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    (width, height), (wide, high) = size, frame
    if wide / width < high / height:
        return wide, min(math.ceil(height * (wide / width)), high)
    return min(math.ceil(width * (high / height)), wide), high


def _join(features_NLD: torch.Tensor, resolution: tuple[int, int]) -> torch.Tensor:
    """Crops side by side: [D, rows of patches, columns of patches]."""
    across, down = (side // CROP for side in resolution)
    side = CROP // PATCH
    return features_NLD.view(down, across, side, side, -1).permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2, 3)


def _shrink(picture_DHW: torch.Tensor) -> torch.Tensor:
    """No more features than MAX_CROPS crops have, by bilinear interpolation, where there are many more."""
    down, across = picture_DHW.shape[1:]
    ratio = math.sqrt(down * across / (MAX_CROPS * (CROP // PATCH) ** 2))
    if ratio <= _SMALLEST_SHRINK:
        return picture_DHW
    return interpolate(picture_DHW[None], [int(down // ratio), int(across // ratio)], mode="bilinear")[0]
