"""A CLIP in open_clip's format, whose layers OpenAI's own code named, in the names and the description of transformers.

Sizes are read from the shapes. What shapes cannot tell is the activation and how attention is cut into heads: heads of
64 numbers and QuickGELU, as in all models of OpenAI, unless an open_clip_config.json beside the file says otherwise.

Shapes: W a tower's width, D the width of the space that images and texts share.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rewards.errors import SetupError
from rewards.weights.checkpoint import read_config, read_state

CONFIG_FILE = "open_clip_config.json"
_HEAD_WIDTH = 64
_HIGHEST_ID = 2  # in transformers' words: a text is read at its highest id, as open_clip does
_SIZES = {"input_resolution", "context_length", "vocab_size"}  # numbers in OpenAI's files; the shapes tell them, too
_TOWERS = {"visual.transformer.resblocks": "vision_model", "transformer.resblocks": "text_model"}
_LAYER = re.compile(rf"({'|'.join(map(re.escape, _TOWERS))})\.(\d+)\.(.+)")
_LAYER_NAMES = {
    "ln_1.weight": "layer_norm1.weight",
    "ln_1.bias": "layer_norm1.bias",
    "ln_2.weight": "layer_norm2.weight",
    "ln_2.bias": "layer_norm2.bias",
    "attn.out_proj.weight": "self_attn.out_proj.weight",
    "attn.out_proj.bias": "self_attn.out_proj.bias",
    "mlp.c_fc.weight": "mlp.fc1.weight",
    "mlp.c_fc.bias": "mlp.fc1.bias",
    "mlp.c_proj.weight": "mlp.fc2.weight",
    "mlp.c_proj.bias": "mlp.fc2.bias",
}
_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


def read_open_clip(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file in open_clip's format, under its own names and mapped, not read.

    Raises:
        SetupError: it is a TorchScript archive, no checkpoint, or not of a CLIP.
    """
    if _is_torchscript(path):
        raise SetupError(
            f"{path} is a TorchScript archive, as OpenAI publishes its models; loading it would run the program in it. "
            "Give the same weights as a plain state dict, or as the hub folder openai/clip-vit-large-patch14."
        )
    content: Any = read_state(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or "visual.conv1.weight" not in state:
        raise SetupError(f"{path} is not a CLIP in open_clip's format: it has no visual.conv1.weight.")
    return {name: tensor for name, tensor in state.items() if name not in _SIZES}


def convert(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors by transformers' names; a name that is unknown stays, for the loader to refuse."""
    converted: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        match = _LAYER.fullmatch(name)
        if name in _TRANSPOSED:  # x @ projection [W, D] there, a linear layer [D, W] here
            converted[_TRANSPOSED[name]] = tensor.T
        elif match is None:
            converted[_NAMES.get(name, name)] = tensor
        else:
            layer = f"{_TOWERS[match[1]]}.encoder.layers.{match[2]}"
            converted.update(_convert_layer(layer, match[3], name, tensor))
    return converted


def describe(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """The config.json that transformers would have written for the network in `path`, whose tensors these are.

    Raises:
        SetupError: tensors are missing or of impossible shapes, or the open_clip_config.json beside it asks for
            something else than a plain CLIP of this size.
    """
    beside = path.with_name(CONFIG_FILE)
    said = _read_said(beside) if beside.is_file() else {}
    try:
        vision, text = _measure_vision(state, said), _measure_text(state, said)
        width = state["text_projection"].shape[1]
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise SetupError(f"{path} is not a CLIP in open_clip's format: {error} is missing or misshapen.") from error
    activation = "quick_gelu" if said.get("quick_gelu", not said) else "gelu"
    for tower in (vision, text):
        tower.update(hidden_act=activation, layer_norm_eps=1e-5, projection_dim=width)
    return {"model_type": "clip", "projection_dim": width, "vision_config": vision, "text_config": text}


def _convert_layer(layer: str, rest: str, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = rest.rpartition("_")[2]
        thirds = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{layer}.self_attn.{letter}_proj.{kind}": third for letter, third in thirds}
    return {f"{layer}.{_LAYER_NAMES[rest]}" if rest in _LAYER_NAMES else name: tensor}


def _measure_vision(state: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
    width, _, _, patch = state["visual.conv1.weight"].shape
    side = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    head = said.get("vision_cfg", {}).get("head_width", _HEAD_WIDTH)
    return {
        **_measure_layers(state, "visual.transformer.resblocks"),
        "hidden_size": width,
        "num_attention_heads": width // head,
        "patch_size": patch,
        "image_size": side * patch,
    }


def _measure_text(state: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = state["token_embedding.weight"].shape
    return {
        **_measure_layers(state, "transformer.resblocks"),
        "hidden_size": width,
        "num_attention_heads": said.get("text_cfg", {}).get("heads", width // _HEAD_WIDTH),
        "max_position_embeddings": state["positional_embedding"].shape[0],
        "vocab_size": vocabulary,
        "bos_token_id": None,
        "pad_token_id": None,
        "eos_token_id": _HIGHEST_ID,
    }


def _measure_layers(state: Mapping[str, torch.Tensor], blocks: str) -> dict[str, int]:
    count = 0
    while f"{blocks}.{count}.ln_1.weight" in state:
        count += 1
    return {"num_hidden_layers": count, "intermediate_size": state[f"{blocks}.0.mlp.c_fc.weight"].shape[0]}


_PLAIN = {
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


def _read_said(path: Path) -> dict[str, Any]:
    """An open_clip_config.json: bare, or under "model_cfg" as in the hub's folders.

    What is not in `_PLAIN` would change the computation (another pooling, say), and is refused.
    """
    config = read_config(path)
    config = config.get("model_cfg", config)
    strange = [name for name in config if name not in ("embed_dim", "quick_gelu", *_PLAIN)]
    for tower, plain in _PLAIN.items():
        fields = config.get(tower)
        if not isinstance(fields, dict):
            raise SetupError(f"{path} needs embed_dim, vision_cfg and text_cfg, as open_clip writes them.")
        strange += [f"{tower}.{name}" for name in fields if name not in plain]
    if strange:
        raise SetupError(f"{path} asks for more than a plain CLIP: {', '.join(strange)}. Take OpenAI's ViT-L-14.")
    return config


def _is_torchscript(path: Path) -> bool:
    """Its zip holds a program besides the tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist())
