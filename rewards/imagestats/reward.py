"""Three numbers that describe any image without a model: darkness, edges, colours. They are never called quality.

All start from the image as 8-bit RGB (alpha is dropped), and luma = (0.299 R + 0.587 G + 0.114 B) / 255 (BT.601). As
none of them says which image is better, no training takes them, alone or in a mix.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image
from PIL.Image import new as new_image

from rewards.errors import ScoringError
from rewards.finding import Finding
from rewards.images import DAMAGE, rgb
from rewards.prompt import Prompt
from rewards.reward import Reward
from rewards.score import Score

DARK_BELOW = 0.1
CELLS = 16**3
_EXACT = 1e-6
_LUMA = np.array([0.299, 0.587, 0.114])


def rgb_pixels(image: Image) -> np.ndarray:
    """uint8 array [height, width, 3] of an image of any mode; ScoringError when it has no pixels or is broken."""
    if image.width == 0 or image.height == 0:
        raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
    try:
        return np.asarray(rgb(image))
    except DAMAGE as error:
        raise ScoringError(f"the image cannot be decoded: {error}") from error


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ _LUMA / 255


def dark_share(pixels: np.ndarray) -> float:
    """Share of pixels whose luma is below 0.1."""
    return float((luma(pixels) < DARK_BELOW).mean())


def gradient(pixels: np.ndarray) -> np.ndarray:
    """Length of the Sobel gradient of luma at each pixel, at most 1, which a step from black to white has beside it.

    min(sqrt(gx^2 + gy^2), 1) with the kernels [[-1,0,1],[-2,0,2],[-1,0,1]] and its transpose, both divided by 4, on
    luma repeated at the border.
    """
    padded = np.pad(luma(pixels), 1, mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = (smooth_down[:, 2:] - smooth_down[:, :-2]) / 4
    down = (smooth_across[2:] - smooth_across[:-2]) / 4
    return np.minimum(np.hypot(across, down), 1)


def edge_density(pixels: np.ndarray) -> float:
    """Mean of `gradient` over the pixels."""
    return float(gradient(pixels).mean())


def colour_counts(pixels: np.ndarray) -> np.ndarray:
    """How many pixels fall into each of the 4096 cells of the joint RGB histogram with 4 bits a channel."""
    return np.bincount(_cells(pixels).ravel(), minlength=CELLS)


def colour_entropy(pixels: np.ndarray) -> float:
    """Entropy in bits of the shares p of the cells of `colour_counts`: -sum p log2 p, 0 to 12."""
    counts = colour_counts(pixels)
    share = counts[counts > 0] / counts.sum()
    return float(max(-(share * np.log2(share)).sum(), 0.0))


def _cells(pixels: np.ndarray) -> np.ndarray:
    steps = (pixels >> 4).astype(np.int64)
    return (steps[..., 0] * 16 + steps[..., 1]) * 16 + steps[..., 2]


def draw_halves() -> Image:
    """4 x 4 pixels, the left half black and the right half white."""
    image = new_image("RGB", (4, 4), "black")
    image.paste("white", (2, 0, 4, 4))
    return image


class _ImageStatistic(Reward):
    """A reward that looks at the pixels alone; `of_halves` is what it says of `draw_halves`, worked out by hand."""

    of_halves: float

    def measure(self, pixels: np.ndarray) -> Score:
        raise NotImplementedError

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [self._score_one(image) for image in images]

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        value = self._score_one(draw_halves()).value
        right = value is not None and abs(value - self.of_halves) <= _EXACT
        words = f"{value} for a picture half black and half white; by hand {self.of_halves}"
        return [Finding(self.spec.key, "drawn picture", "ok" if right else "failed", words)]

    def _score_one(self, image: Image) -> Score:
        try:
            return self.measure(rgb_pixels(image))
        except ScoringError as error:
            return Score.failed(str(error))

    def provenance(self) -> dict[str, str]:
        return {"engine": "numpy", "engine_version": np.__version__, "weights": "none"}


class DarkShare(_ImageStatistic):
    """imagestats.dark: see `dark_share`."""

    of_halves = 0.5

    def measure(self, pixels: np.ndarray) -> Score:
        dark, total = int((luma(pixels) < DARK_BELOW).sum()), pixels.shape[0] * pixels.shape[1]
        return Score(dark_share(pixels), f"{dark} of {total} pixels")


class EdgeDensity(_ImageStatistic):
    """imagestats.edges: see `edge_density`; the detail names the strongest gradient and the row and column of it."""

    of_halves = 0.5  # a whole step in the two columns at the border, 0 in the others

    def measure(self, pixels: np.ndarray) -> Score:
        lengths = gradient(pixels)
        row, column = np.unravel_index(int(lengths.argmax()), lengths.shape)
        return Score(edge_density(pixels), f"strongest {lengths[row, column]:.3f} at row {row}, column {column}")


class ColourEntropy(_ImageStatistic):
    """imagestats.colours: see `colour_entropy`; the detail counts the cells in use and names the fullest one's mean."""

    of_halves = 1.0  # two colours of equal share

    def measure(self, pixels: np.ndarray) -> Score:
        counts = colour_counts(pixels)
        fullest = int(counts.argmax())
        colour = pixels[_cells(pixels) == fullest].mean(axis=0).round().astype(int)
        name = "#" + "".join(f"{channel:02x}" for channel in colour)
        share = counts[fullest] / counts.sum()
        return Score(
            colour_entropy(pixels), f"{np.count_nonzero(counts)} of {CELLS} cells; {share:.1%} are near {name}"
        )
