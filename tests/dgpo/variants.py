"""Copies of a model's folder with one thing changed, as people's own folders come with."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def with_config(folder: Path, copy: Path, part: str, **changes: Any) -> Path:
    """One part's config changed; a None takes a setting out."""
    shutil.copytree(folder, copy)
    path = copy / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return copy


def with_number(folder: Path, copy: Path, file: str, tensor: str, number: float, rows: Any = ...) -> Path:
    """One tensor (named by its end), or some rows of it, filled with a number."""
    shutil.copytree(folder, copy)
    weights = load_file(copy / file)
    (name,) = (name for name in weights if name.endswith(tensor))
    weights[name][rows] = torch.tensor(number).to(weights[name].dtype)
    save_file(weights, copy / file, metadata={"format": "pt"})
    return copy


def with_broken_decoder(folder: Path, copy: Path, number: float = float("nan")) -> Path:
    """Every image of it is of no colour."""
    return with_number(folder, copy, "vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias", number)
