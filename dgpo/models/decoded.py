"""From what a decoder gives to colours, and the reason where there are none."""

import torch


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
