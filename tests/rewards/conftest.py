"""Images of text that any machine can draw, and the recorded ones."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

GOLDEN = Path(__file__).parents[1] / "golden" / "ocr"
COLOURS = (("white", "black"), ("black", "white"), ("white", (0, 0, 110)), ((0, 0, 110), "white"), ("red", "yellow"))


def draw_word(word: str, width: int = 160, height: int = 64, look: int = 0) -> Image.Image:
    colour, background = COLOURS[look % len(COLOURS)]
    image = Image.new("RGB", (width, height), background)
    font = ImageFont.load_default(size=height * 0.55)
    ImageDraw.Draw(image).text((width / 2, height / 2), word, fill=colour, font=font, anchor="mm")
    return image


@pytest.fixture(scope="session")
def word_image() -> Callable[..., Image.Image]:
    return draw_word


@pytest.fixture(scope="session")
def golden_image() -> Callable[..., np.ndarray]:
    """Pixels of a recorded image, as bgr or rgb; skips where the image is not on this machine."""

    def read(name: str, channels: str) -> np.ndarray:
        folders = [GOLDEN / "images"]
        shared = os.environ.get("DGPO_GOLDEN_DIR") or Path(__file__).parents[2].parent / "shared" / "golden"
        folders.append(Path(shared) / "geneval_ocr" / "ocr" / "images")
        for folder in folders:
            if (folder / name).is_file():
                pixels = np.asarray(Image.open(folder / name).convert("RGB"))
                return np.ascontiguousarray(pixels[:, :, ::-1]) if channels == "bgr" else pixels
        pytest.skip(f"{name} is not in {GOLDEN / 'images'} nor under DGPO_GOLDEN_DIR")

    return read
