"""Which images a Stable Diffusion 3 model can draw, by its configs alone: sizes, and the latents they have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.errors import UsageError


@dataclass(frozen=True)
class Canvas:
    """Pixels, latent cells (`scale` pixels a side) and patches (`patch` cells a side) of one model."""

    channels: int
    """Of the latent."""
    cells: int
    """A side of the model's own size."""
    scale: int
    patch: int
    largest: int
    """Patches a side for which the model knows positions."""

    @classmethod
    def of(cls, transformer: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> "Canvas":
        """From the configs of both networks; what one leaves out is as diffusers has it."""
        return cls(
            channels=transformer.get("in_channels", 16),
            cells=transformer.get("sample_size", 128),
            scale=2 ** (len(autoencoder.get("block_out_channels", (64,))) - 1),
            patch=transformer.get("patch_size", 2),
            largest=transformer.get("pos_embed_max_size", 96),
        )

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """Latent [C, H, W] of an image in pixels; without a size, the model's own.

        Raises:
            UsageError: this model cannot draw that size; it would be cut off, or have no positions.
        """
        sides = self.size(height, width)
        for name, pixels in zip(("height", "width"), sides, strict=True):
            self._refuse(name, pixels)
        return self.channels, sides[0] // self.scale, sides[1] // self.scale

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width in pixels; without one, the model's own."""
        own = self.cells * self.scale
        return own if height is None else height, own if width is None else width

    def tokens(self, shape: tuple[int, ...]) -> int:
        """Patches of a latent [C, H, W]."""
        return (shape[-2] // self.patch) * (shape[-1] // self.patch)

    def _refuse(self, name: str, pixels: int) -> None:
        unit = self.patch * self.scale
        top = unit * self.largest
        if pixels % unit == 0 and unit <= pixels <= top:
            return
        below = min(max(unit, pixels // unit * unit), top)
        near = " or ".join(str(side) for side in sorted({below, min(below + unit, top)} if pixels < top else {top}))
        raise UsageError(
            f"sampling.{name} is {pixels}, and this model draws multiples of {unit} from {unit} to {top} pixels; "
            f"take {near}."
        )
