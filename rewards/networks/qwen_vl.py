"""Qwen2.5-VL and Qwen3-VL folders in transformers' classes: their keys, and what their tower sees of an image.

An image is resized once, by PIL bicubic on 8-bit pixels to multiples of a patch and its merging, as qwen_vl_utils did
for the models' authors; leaving that to transformers' processor moves logits by 3e-3. Qwen3-VL is read by the same
rules with its own numbers and has not been compared with its original here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image, Resampling

from rewards.errors import ScoringError, SetupError
from rewards.networks.preprocess import normalise

MODEL_TYPES = ("qwen2_5_vl", "qwen3_vl")
_MIN_TOKENS, _MAX_TOKENS = 4, 16384  # of an image
_MOST_ELONGATED = 200
_SUBMODULES = ("visual", "language_model")


def rename_key(key: str) -> str:
    """A key as transformers 5 names it; folders written before it have the two networks at other places.

    >>> rename_key("visual.blocks.0.norm1.weight"), rename_key("model.norm.weight"), rename_key("model.visual.x")
    ('model.visual.blocks.0.norm1.weight', 'model.language_model.norm.weight', 'model.visual.x')
    """
    if key.startswith("visual."):
        return f"model.{key}"
    if key.startswith("model.") and key.split(".")[1] not in _SUBMODULES:
        return "model.language_model." + key[len("model.") :]
    return key


@dataclass(frozen=True)
class Eye:
    """How images are cut for one tower: pixels a patch, patches merged a side, frames a patch, normalisation."""

    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def step(self) -> int:
        """Pixels of image that one embedding stands for, along a side."""
        return self.patch * self.merge

    def fit(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that an image is resized to: near its own, whole steps, neither tiny nor huge.

        Raises:
            ScoringError: it is more elongated than the models were made for.
        """
        width, height = size
        if max(size) > _MOST_ELONGATED * min(size):
            raise ScoringError(f"the image is too elongated for this model ({width} x {height} pixels)")
        low, high = _MIN_TOKENS * self.step**2, _MAX_TOKENS * self.step**2
        wide, tall = (max(self.step, round(side / self.step) * self.step) for side in size)
        if wide * tall > high:
            scale = math.sqrt(width * height / high)
            wide, tall = (max(self.step, math.floor(side / scale / self.step) * self.step) for side in size)
        elif wide * tall < low:
            scale = math.sqrt(low / (width * height))
            wide, tall = (math.ceil(side * scale / self.step) * self.step for side in size)
        return wide, tall

    def __call__(self, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches of an RGB image [patches, channels * frames * patch * patch] in the tower's order, and their grid.

        The grid [1, 3] counts patches as frames, rows and columns; a still image stands in every frame.
        """
        pixels = normalise(image.resize(self.fit(image.size), Resampling.BICUBIC), self.mean, self.std)
        down, across = (side // self.patch for side in pixels.shape[1:])
        merge, patch = self.merge, self.patch
        blocks = pixels.view(3, down // merge, merge, patch, across // merge, merge, patch)
        ordered = blocks.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        still = ordered.expand(-1, -1, -1, -1, -1, self.frames, -1, -1)
        return still.reshape(down * across, -1), torch.tensor([[1, down, across]])


def read_eye(settings: Mapping[str, Any], source: Path) -> Eye:
    """The numbers of a preprocessor_config.json.

    Raises:
        SetupError: one is missing, or it asks for something else than bicubic and normalisation.
    """
    asked = {
        name: settings[name] for name in ("do_resize", "do_normalize", "do_rescale") if not settings.get(name, True)
    }
    if settings.get("resample", Resampling.BICUBIC) != Resampling.BICUBIC:
        asked["resample"] = settings["resample"]
    if asked:
        words = ", ".join(f"{name} = {value}" for name, value in asked.items())
        raise SetupError(f"{source} asks for a way of preparing images that is not reproduced here: {words}.")
    try:
        patch, merge, frames = (int(settings[name]) for name in ("patch_size", "merge_size", "temporal_patch_size"))
        mean, std = (tuple(map(float, settings[name])) for name in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise SetupError(f"{source} does not describe a Qwen-VL's images ({error!r}); fetch it again.") from error
    return Eye(patch, merge, frames, mean, std)
