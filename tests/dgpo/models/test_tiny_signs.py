import numpy as np
import pytest

from dgpo.models.tiny import signs
from dgpo.models.tiny.words import COLOURS, held_out_words, sign_prompt
from rewards.ocr.models import onnx_failures
from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from rewards.registry import load


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
    values = [score.value or 0.0 for score in reward.score(images, prompts)]
    assert np.mean(values) > 0.9, values


def test_picture_follows_from_word_colour_and_seed():
    one = draw("anchor", "blue", 1)
    assert one.size == (signs.WIDTH, signs.HEIGHT)
    assert one.tobytes() == draw("anchor", "blue", 1).tobytes()
    others = [draw("anchor", "blue", 2), draw("anchor", "red", 1), draw("ankles", "blue", 1)]
    assert one.tobytes() not in {other.tobytes() for other in others}


def test_longest_word_stays_within_the_board():
    """The widest letter six times: nothing but board along the edges."""
    pixels = np.asarray(signs.draw_sign("w" * signs.LONGEST, "black")).astype(int)
    for edge in (pixels[:, 0], pixels[:, -1], pixels[0], pixels[-1]):
        assert not np.ptp(edge, axis=0).any()


@pytest.mark.parametrize("colour", COLOURS)
def test_paint_stands_out_from_its_board(colour):
    for seed in range(10):
        pixels = np.asarray(draw("mmm", colour, seed).convert("L")).astype(int)
        assert pixels.max() - pixels.min() > 90


def test_a_share_of_uneven_signs_is_misspelled():
    """Of 400 signs at a share of 0.75 about 300 differ from the clean one, which is one picture a prompt."""
    clean = signs.draw_sign("harbor", "blue")
    assert clean.tobytes() == signs.draw_sign("harbor", "blue").tobytes()
    rng = np.random.default_rng(0)
    drawn = [signs.draw_uneven_sign("harbor", "blue", 0.75, rng).tobytes() for _ in range(400)]
    assert 270 < sum(picture != clean.tobytes() for picture in drawn) < 330
    assert signs.draw_uneven_sign("harbor", "blue", 0.0, rng).tobytes() == clean.tobytes()
