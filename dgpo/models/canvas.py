"""Which images a model can draw, by its configs alone: sizes, and the latents they have."""

from dataclasses import dataclass

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
    largest: int | None = None
    """Patches a side for which the model knows positions; None where it knows them all."""

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
        top = None if self.largest is None else unit * self.largest
        if pixels % unit == 0 and unit <= pixels and (top is None or pixels <= top):
            return
        below = max(unit, pixels // unit * unit)
        near = {below, below + unit} if top is None or pixels < top else {top}
        sides = " or ".join(str(side) for side in sorted(side for side in near if top is None or side <= top))
        raise UsageError(
            f"sampling.{name} is {pixels}, and this model draws multiples of {unit} from {unit} "
            f"{'on' if top is None else f'to {top} pixels'}; take {sides}."
        )
