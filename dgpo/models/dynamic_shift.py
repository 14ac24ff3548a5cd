"""A shift of times that grows with the image, as Stable Diffusion 3's pipeline and those after it take it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class TokenShift:
    """mu as a straight line in the number of patches, through two points that the scheduler's config names."""

    tokens: int
    """Patches of the image."""
    reads: ClassVar[Mapping[str, float]] = {
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "base_shift": 0.5,
        "max_shift": 1.16,
    }
    """Settings of the scheduler, each with what stands for one that a config leaves out."""

    def mu(self, config: Mapping[str, Any]) -> float:
        """Logarithm of the shift, or the shift itself, as the scheduler takes it."""
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

        return calculate_shift(self.tokens, *(config.get(name, default) for name, default in self.reads.items()))


class FluxShift(TokenShift):
    """The same line as FLUX.1, Qwen-Image and Z-Image have it, which end a little lower where nothing is said."""

    reads: ClassVar[Mapping[str, float]] = {**TokenShift.reads, "max_shift": 1.15}
