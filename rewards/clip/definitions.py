"""The definitions of CLIPScore that are in use: what each makes of the cosine of image and prompt."""

import math
from dataclasses import dataclass
from typing import Literal

# exp(logit_scale) is clipped there in CLIP's training (Radford et al. 2021, section 2.5), and OpenAI's models have it.
LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class Definition:
    """score = factor * cosine, or factor * exp(logit_scale) * cosine; nothing below `floor`."""

    tokens: Literal["openai", "published"]
    way: Literal["resize-first", "rgb-first", "bilinear"]
    unit: str
    factor: float = 1.0
    scaled: bool = False
    floor: float = -math.inf
    prefix: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest score, of whatever weights."""
        highest = self.factor * (LARGEST_SCALE if self.scaled else 1.0)
        return max(self.floor, -highest), highest


DEFINITIONS = {
    "cosine": Definition("openai", "resize-first", "cosine"),
    "hf-cosine": Definition("published", "rgb-first", "cosine"),
    "dgpo": Definition("published", "bilinear", "logit / 30", 1 / 30, scaled=True),
    "diffusionnft": Definition("published", "bilinear", "logit / 100", 1 / 100, scaled=True),
    "torchmetrics": Definition("published", "rgb-first", "100 * cosine, at least 0", 100.0, floor=0.0),
    "paper": Definition(
        "openai", "resize-first", "2.5 * cosine, at least 0", 2.5, floor=0.0, prefix="A photo depicts "
    ),
}
