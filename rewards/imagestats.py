"""Three numbers that describe any image without a model: darkness, edges, colours. They are never called quality.

All start from the image as 8-bit RGB (alpha is dropped), and luma = 0.299 R + 0.587 G + 0.114 B in [0, 1] (BT.601).
"""

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from rewards.card import Card
from rewards.errors import ScoringError
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec

DARK_BELOW = 0.1
_LUMA = np.array([0.299, 0.587, 0.114])


def rgb_pixels(image: Image) -> np.ndarray:
    """uint8 array [height, width, 3] of an image of any mode; ScoringError when it has no pixels or is broken."""
    if image.width == 0 or image.height == 0:
        raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
    try:
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ScoringError(f"the image cannot be decoded: {error}") from error


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ _LUMA / 255


def dark_share(pixels: np.ndarray) -> float:
    """Share of pixels whose luma is below 0.1."""
    return float((luma(pixels) < DARK_BELOW).mean())


def edge_density(pixels: np.ndarray) -> float:
    """Mean length of the Sobel gradient of luma, scaled so that a step from black to white counts 1 where it is.

    With kernels [[-1,0,1],[-2,0,2],[-1,0,1]] and its transpose, both divided by 4, on luma repeated at the border:
    mean over pixels of min(sqrt(gx^2 + gy^2), 1).
    """
    padded = np.pad(luma(pixels), 1, mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = (smooth_down[:, 2:] - smooth_down[:, :-2]) / 4
    down = (smooth_across[2:] - smooth_across[:-2]) / 4
    return float(np.minimum(np.hypot(across, down), 1).mean())


def colour_entropy(pixels: np.ndarray) -> float:
    """Entropy in bits of the joint RGB histogram with 4 bits a channel: -sum p log2 p over its 4096 cells, 0 to 12."""
    steps = (pixels >> 4).astype(np.int64)
    cells = (steps[..., 0] * 16 + steps[..., 1]) * 16 + steps[..., 2]
    counts = np.bincount(cells.ravel())
    share = counts[counts > 0] / cells.size
    return float(max(-(share * np.log2(share)).sum(), 0.0))


class _ImageStatistic:
    """A reward that looks at the pixels alone."""

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        self.spec = spec
        self.card = card

    def check(self, prompt: Prompt) -> None:
        """Any prompt will do."""

    def measure(self, pixels: np.ndarray) -> float:
        raise NotImplementedError

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [self._score_one(image) for image in images]

    def _score_one(self, image: Image) -> Score:
        try:
            return Score(self.measure(rgb_pixels(image)))
        except ScoringError as error:
            return Score.failed(str(error))

    def provenance(self) -> dict[str, str]:
        return {"engine": "numpy", "engine_version": np.__version__, "weights": "none"}


class DarkShare(_ImageStatistic):
    """imagestats.dark: see `dark_share`."""

    def measure(self, pixels: np.ndarray) -> float:
        return dark_share(pixels)


class EdgeDensity(_ImageStatistic):
    """imagestats.edges: see `edge_density`."""

    def measure(self, pixels: np.ndarray) -> float:
        return edge_density(pixels)


class ColourEntropy(_ImageStatistic):
    """imagestats.colours: see `colour_entropy`."""

    def measure(self, pixels: np.ndarray) -> float:
        return colour_entropy(pixels)
