"""Drawn signs: what the embedded model is pretrained on.

A sign is one word in capitals, left-aligned in a fixed pitch, on a plain board. The autoencoder learns from signs that
vary in shade, paint and position. The denoiser learns to spell from one clean picture a prompt, and then from signs of
uneven quality, as the web's pictures are: a share of them is misspelled under a prompt that does not say so. A model of
such data can write and often does not, which is what reinforcement has to mend.
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


def draw_sign(word: str, colour: str, rng: np.random.Generator | None = None) -> Image.Image:
    """A clean sign, `HEIGHT` x `WIDTH`, RGB; with `rng`, shade, paint and position (1 px aside, 2 up or down) vary."""
    shade, tint, left, top = 1.0, np.zeros(3), MARGIN, HEIGHT // 2
    paint = 24 if colour in _LIGHT_BOARDS else 240
    if rng is not None:
        shade, tint = rng.uniform(0.88, 1.08), rng.uniform(-6, 6, size=3)
        paint = int(rng.uniform(8, 40)) if colour in _LIGHT_BOARDS else int(rng.uniform(220, 255))
        left, top = MARGIN + int(rng.integers(-1, 2)), HEIGHT // 2 + int(rng.integers(-2, 3))
    board = tuple(int(value) for value in np.clip(np.array(_BOARD[colour]) * shade + tint, 0, 255))
    image = Image.new("RGB", (WIDTH, HEIGHT), board)
    canvas = ImageDraw.Draw(image)
    for place, letter in enumerate(word.upper()):
        canvas.text((left + PITCH * place, top), letter, font=_font(), fill=(paint, paint, paint), anchor="lm")
    return image


def draw_uneven_sign(word: str, colour: str, bad_share: float, rng: np.random.Generator) -> Image.Image:
    """The sign of the word or, with probability `bad_share`, of a misspelling of it."""
    return draw_sign(_misspell(word, rng) if rng.random() < bad_share else word, colour)


def _misspell(word: str, rng: np.random.Generator) -> str:
    """Two thirds of the letters, at least two, replaced by random ones."""
    letters = list(word)
    for place in rng.permutation(len(word))[: max(2, 2 * len(word) // 3)]:
        letters[place] = LETTERS[int(rng.integers(len(LETTERS)))]
    changed = "".join(letters)
    return changed if changed not in held_out_words() else _misspell(word, rng)


def random_word(rng: np.random.Generator, share_real: float = 0.3) -> str:
    """A training word or, more often, random letters, so that spelling is learned by letter; never a held-out word."""
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
