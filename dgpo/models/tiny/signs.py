"""Drawn signs: what the embedded model is pretrained on.

A sign is one word in capitals, left-aligned in a fixed pitch, on a plain board. Shade, weight of the paint and position
vary from sign to sign, so that one prompt has many good pictures and a group of samples has something to differ in.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dgpo.models.tiny.words import COLOURS, held_out_words, training_words

HEIGHT, WIDTH = 32, 64
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST, LONGEST = 3, 6
FONT_SIZE = 16
PITCH = 10
MARGIN = 3

_BOARD = {
    "black": (24, 24, 28),
    "blue": (28, 60, 150),
    "green": (20, 105, 55),
    "red": (170, 30, 35),
    "white": (238, 238, 232),
    "yellow": (240, 200, 40),
}
_LIGHT_BOARDS = ("white", "yellow")


@cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono-Bold.ttf", FONT_SIZE)


def draw_sign(word: str, colour: str, rng: np.random.Generator) -> Image.Image:
    """A clean sign, `HEIGHT` x `WIDTH` pixels, RGB; shade and position (2 px up or down, 1 px aside) come from `rng`."""
    shade = rng.uniform(0.88, 1.08)
    board = tuple(int(np.clip(channel * shade + rng.uniform(-6, 6), 0, 255)) for channel in _BOARD[colour])
    paint = int(rng.uniform(8, 40)) if colour in _LIGHT_BOARDS else int(rng.uniform(220, 255))
    image = Image.new("RGB", (WIDTH, HEIGHT), board)
    canvas = ImageDraw.Draw(image)
    left, top = MARGIN + int(rng.integers(-1, 2)), HEIGHT // 2 + int(rng.integers(-2, 3))
    for place, letter in enumerate(word.upper()):
        canvas.text((left + PITCH * place, top), letter, font=_font(), fill=(paint, paint, paint), anchor="lm")
    return image


def random_word(rng: np.random.Generator, share_real: float = 0.3) -> str:
    """A training word, or (more often) random letters, so that spelling is learned letter by letter; never a held-out word."""
    if rng.random() < share_real:
        words = training_words()
        return words[int(rng.integers(len(words)))]
    while True:
        length = int(rng.integers(SHORTEST, LONGEST + 1))
        word = "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=length))
        if word not in held_out_words():
            return word


def random_colour(rng: np.random.Generator) -> str:
    return COLOURS[int(rng.integers(len(COLOURS)))]
