"""From an image to what a CLIP-like tower sees, in the ways that the originals do it.

They differ in the order of resizing and converting to RGB, in the rounding of the crop, and in whether the resize
works on 8-bit pixels (PIL) or on floats (torchvision); each moves scores. All give normalised floats [3, size, size].
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as PIL
from PIL.Image import Image, Resampling
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from rewards.errors import ScoringError, SetupError
from rewards.images import rgb
from rewards.weights.checkpoint import read_config

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_STEPS = ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize")


@dataclass(frozen=True)
class Way:
    """One way of preparing images, with its numbers: call it with an image. Equal ways see images alike."""

    name: Literal["resize-first", "rgb-first", "bilinear"]
    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    antialias: bool = True

    def __call__(self, image: Image) -> torch.Tensor:
        if self.name == "bilinear":
            return bilinear(image, self.size, antialias=self.antialias)
        prepare = resize_first if self.name == "resize-first" else rgb_first
        return prepare(image, self.size, self.mean, self.std)


def read_way(path: Path) -> Way:
    """The way that a preprocessor_config.json asks for, in the words of any version of transformers.

    Raises:
        SetupError: it asks for something else than RGB, bicubic, centre crop of the resized side and normalisation.
    """
    settings = read_config(path)
    size = _read_side(settings.get("size", 224), "shortest_edge")
    crop = _read_side(settings.get("crop_size", size), "height")
    asked = {
        **{step: settings[step] for step in _STEPS if settings.get(step, True) is not True},
        **({"size": settings["size"]} if size is None else {}),
        **({"crop_size": settings.get("crop_size")} if crop is None or crop != size else {}),
        **({"resample": settings["resample"]} if settings.get("resample", 3) != Resampling.BICUBIC else {}),
    }
    if abs(settings.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        asked["rescale_factor"] = settings["rescale_factor"]
    if asked or size is None:
        words = ", ".join(f"{name} = {value}" for name, value in asked.items())
        raise SetupError(f"{path} asks for a way of preparing images that is not reproduced here: {words}.")
    mean, std = (
        tuple(settings.get(name, usual)) for name, usual in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD))
    )
    return Way("rgb-first", size, mean, std)


def resize_first(
    image: Image, size: int, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
) -> torch.Tensor:
    """OpenAI's and ImageReward's way: PIL bicubic in the image's own mode, centre crop, then RGB.

    Transparent images are resized with premultiplied alpha and palette images by nearest neighbour, as PIL does; the
    crop's offset is rounded half to even.
    """
    resized = _resize_shorter(image, size)
    left, top = (round((side - size) / 2) for side in resized.size)
    return normalise(_to_rgb(resized.crop((left, top, left + size, top + size))), mean, std)


def rgb_first(
    image: Image, size: int, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
) -> torch.Tensor:
    """transformers' way up to version 4 (PickScore, Flow-GRPO): RGB without alpha, PIL bicubic, crop rounded down."""
    resized = _resize_shorter(_to_rgb(image), size)
    left, top = ((side - size) // 2 for side in resized.size)
    return normalise(resized.crop((left, top, left + size, top + size)), mean, std)


def pad_longest(image: Image, size: int, *, antialias: bool) -> torch.Tensor:
    """HPSv2's way: float RGB, longer side to `size` by bicubic, then black borders; nothing is cut off.

    Alpha is dropped; the original fails on transparent images.
    """
    pixels = _to_float(image)
    height, width = pixels.shape[1:]
    shape = [max(1, round(side * size / max(height, width))) for side in (height, width)]
    resized = resize(pixels, shape, InterpolationMode.BICUBIC, antialias=antialias)
    canvas = torch.zeros(3, size, size)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    canvas[:, top : top + shape[0], left : left + shape[1]] = resized
    return _standardise(canvas, CLIP_MEAN, CLIP_STD)


def squared(
    image: Image, size: int, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
) -> torch.Tensor:
    """DeQA's way: RGB without alpha, in the middle of a square of the mean colour (rounded down), PIL bicubic."""
    return normalise(pad_to_square(_to_rgb(image), mean).resize((size, size), Resampling.BICUBIC), mean, std)


def pad_to_square(image: Image, colour: Sequence[float]) -> Image:
    """An RGB image in the middle of a square; `colour` in shares of white.

    Raises:
        ScoringError: the square would be larger than any image that PIL opens without a warning.
    """
    width, height = image.size
    side = max(width, height)
    if width == height:
        return image
    if PIL.MAX_IMAGE_PIXELS is not None and side * side > PIL.MAX_IMAGE_PIXELS:
        raise ScoringError(f"the image is too large to be padded to a square ({width} x {height} pixels)")
    red, green, blue = (int(share * 255) for share in colour)
    square = PIL.new("RGB", (side, side), (red, green, blue))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def as_jpeg(image: Image) -> Image:
    """The RGB image that is left of one sent as JPEG with PIL's defaults: quality 75, colours at half resolution."""
    buffer = io.BytesIO()
    _to_rgb(image).save(buffer, "JPEG", quality=75)
    with PIL.open(buffer) as sent:
        return sent.convert("RGB")


def bilinear(image: Image, size: int, *, antialias: bool) -> torch.Tensor:
    """The way of the CLIP scorers of DGPO and DiffusionNFT: float RGB, shorter side by bilinear, centre crop."""
    _longer_side(image, size)
    pixels = resize(_to_float(image), [size], InterpolationMode.BILINEAR, antialias=antialias)
    return _standardise(center_crop(pixels, [size]), CLIP_MEAN, CLIP_STD)


def normalise(image: Image, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> torch.Tensor:
    """An RGB image of 8 bits as standardised floats [3, height, width]."""
    return _standardise(_to_float(image), mean, std)


def _read_side(value: int | Mapping[str, Any], name: str) -> int | None:
    """The side of a square, given as a number or as {name: number}; None where it is anything else."""
    if isinstance(value, int):
        return value
    side = value.get(name)
    square = all(other == side for other in value.values())
    return side if isinstance(side, int) and square and set(value) <= {name, "width"} else None


def _standardise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _to_float(image: Image) -> torch.Tensor:
    pixels = np.asarray(_to_rgb(image))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div(255)


def _to_rgb(image: Image) -> Image:
    _refuse_empty(image)
    return rgb(image)


def _resize_shorter(image: Image, size: int) -> Image:
    """Shorter side `size`, the other cut to a whole number of pixels."""
    long = _longer_side(image, size)
    width, height = image.size
    if min(width, height) == size:
        return image
    return image.resize((size, long) if width <= height else (long, size), Resampling.BICUBIC)


def _longer_side(image: Image, size: int) -> int:
    """Of the image whose shorter side is brought to `size`; ScoringError where that would take all the memory."""
    _refuse_empty(image)
    width, height = image.size
    long = int(size * max(width, height) / min(width, height))
    if PIL.MAX_IMAGE_PIXELS is not None and size * long > PIL.MAX_IMAGE_PIXELS:
        raise ScoringError(f"the image is too elongated to be resized ({width} x {height} pixels)")
    return long


def _refuse_empty(image: Image) -> None:
    if image.width == 0 or image.height == 0:
        raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
