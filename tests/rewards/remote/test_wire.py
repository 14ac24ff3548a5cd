import io
import json

import pytest
from PIL import Image

from rewards.errors import ScoringError
from rewards.prompt import Prompt
from rewards.remote.wire import cut, encode, json_bytes, mark_of, read_scores, write_prompt, write_score
from rewards.score import Score

PROMPTS = [Prompt("a"), Prompt("b", {"include": []})]
PARTS = [b"one", b"two"]
SCORES = [Score(0.1 + 0.2, "seen"), Score.failed("not\ud800 seen", "é")]


def document():
    scores = [write_score(*one) for one in zip(SCORES, PROMPTS, map(mark_of, PARTS), strict=True)]
    return json.loads(json.dumps({"scores": scores}))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_an_image_travels_without_loss(mode):
    image = Image.radial_gradient("L").resize((33, 21)).convert("RGBA")
    image.putpixel((3, 4), (250, 10, 20, 99))
    image = image.convert(mode)
    back = Image.open(io.BytesIO(encode(image)))
    assert (back.mode, back.size) == (image.mode, image.size)
    assert back.tobytes() == image.tobytes()


def test_transparency_of_a_palette_travels():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.info["transparency"] = 1
    assert Image.open(io.BytesIO(encode(image))).convert("RGBA").getpixel((0, 0)) == (255, 0, 0, 0)


def test_modes_that_png_lacks_travel_as_rgb():
    image = Image.new("CMYK", (4, 4), (10, 200, 30, 40))
    assert Image.open(io.BytesIO(encode(image))).tobytes() == image.convert("RGB").tobytes()


def test_empty_and_broken_images_are_no_images():
    broken = Image.open(io.BytesIO(encode(Image.effect_noise((64, 64), 90))[:-700]))
    for image in (Image.new("RGB", (0, 5)), broken):
        with pytest.raises(ScoringError):
            encode(image)


def test_scores_come_back_to_the_last_bit():
    assert read_scores(document(), PARTS, PROMPTS) == SCORES


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("scores"),
        lambda d: d["scores"].pop(),
        lambda d: d["scores"].reverse(),
        lambda d: d["scores"][0].update(prompt=PROMPTS[1].id),
        lambda d: d["scores"][0].update(image=mark_of(b"two")),
        lambda d: d["scores"][0].update(value="0.3"),
        lambda d: d["scores"][0].update(value=True),
        lambda d: d["scores"][0].update(value=None),
        lambda d: d["scores"][1].update(value=0.0),
        lambda d: d["scores"][0].pop("detail"),
        lambda d: d["scores"].__setitem__(0, 0.3),
    ],
)
def test_an_answer_about_something_else_is_none(spoil):
    answer = document()
    spoil(answer)
    with pytest.raises(ValueError, match="score"):
        read_scores(answer, PARTS, PROMPTS)


def test_a_prompt_is_counted_as_it_is_written():
    for prompt in (*PROMPTS, Prompt("ä" * 10)):
        grown = json.dumps([*map(write_prompt, PROMPTS), write_prompt(prompt)])
        assert json_bytes(prompt) == len(grown) - len(json.dumps([*map(write_prompt, PROMPTS)]))


def test_nothing_is_cut_out_of_nothing():
    assert list(cut([], (1,))) == []
    assert list(cut([(9,)], (1,))) == [slice(0, 1)]
