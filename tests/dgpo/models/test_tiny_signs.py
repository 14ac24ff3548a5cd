import numpy as np
import pytest

from dgpo.models.tiny import signs
from dgpo.models.tiny.words import COLOURS, held_out_words, sign_prompt
from rewards.ocr_models import onnx_failures
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.spec import parse_rewards


def draw(word, colour, seed):
    return signs.draw_sign(word, colour, np.random.default_rng(seed))


@pytest.mark.parametrize("options", ["ocr", "ocr[detect=false]"])
def test_an_ocr_engine_reads_them(options):
    pytest.importorskip("rapidocr")
    assert onnx_failures()
    reward = load(parse_rewards([options])[0])
    words = [word for word in held_out_words() if len(word) > 3][:10]
    colours = [COLOURS[place % len(COLOURS)] for place in range(10)]
    images = [draw(word, colour, place) for place, (word, colour) in enumerate(zip(words, colours, strict=True))]
    prompts = [Prompt(sign_prompt(word, colour)) for word, colour in zip(words, colours, strict=True)]
    values = [score.value for score in reward.score(images, prompts)]
    assert np.mean(values) > 0.9, values


def test_picture_follows_from_word_colour_and_seed():
    one = draw("anchor", "blue", 1)
    assert one.size == (signs.WIDTH, signs.HEIGHT)
    assert one.tobytes() == draw("anchor", "blue", 1).tobytes()
    others = [draw("anchor", "blue", 2), draw("anchor", "red", 1), draw("ankles", "blue", 1)]
    assert one.tobytes() not in {other.tobytes() for other in others}


def test_longest_word_stays_within_the_board():
    """The widest letter six times: board on the right edge at every shift."""
    for seed in range(30):
        pixels = np.asarray(draw("w" * signs.LONGEST, "black", seed)).astype(int)
        assert pixels[:, -1].max() - pixels[:, -1].min() == 0
        assert pixels[0].max() - pixels[0].min() == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_paint_stands_out_from_its_board(colour):
    for seed in range(10):
        pixels = np.asarray(draw("mmm", colour, seed).convert("L")).astype(int)
        assert pixels.max() - pixels.min() > 90
