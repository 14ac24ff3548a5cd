"""From what a decoder gives to colours, and the reason where there are none; and back to what an encoder takes."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def finite_rows(values: torch.Tensor) -> list[bool]:
    """For each of a batch whether all its numbers exist."""
    return torch.isfinite(values).flatten(1).all(dim=1).tolist()


def not_finite(what: str, dtype: torch.dtype) -> str:
    """Why there is no image."""
    precision = str(dtype).removeprefix("torch.")
    return f"the {what} are not finite (NaN or infinity, computed in {precision})"


def to_uint8(pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """Network pixels in [-1, 1] to 0..255, rounded to the nearest: the only place where pixels become integers."""
    return (pixels_BCHW.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def to_images(
    latents_BCHW: torch.Tensor, pixels_BCHW: torch.Tensor, network: torch.dtype, autoencoder: torch.dtype
) -> list[Image.Image | str]:
    """The image of each latent, or which of both had numbers that are none, and in which precision."""
    drawn, decoded = finite_rows(latents_BCHW), finite_rows(pixels_BCHW)
    arrays = to_uint8(pixels_BCHW.nan_to_num()).permute(0, 2, 3, 1).cpu().numpy()
    no_pixels, no_latents = not_finite("pixels", autoencoder), not_finite("latents", network)
    return [
        Image.fromarray(array) if sound else no_pixels if latent else no_latents
        for array, latent, sound in zip(arrays, drawn, decoded, strict=True)
    ]


def to_pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    """RGB images of one size as network pixels in [-1, 1], fp32 [B, 3, H, W]."""
    arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1
