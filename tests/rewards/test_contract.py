"""What every reward promises, tested on every entry of the table."""

import importlib.util
import io

import pytest
from PIL import Image

from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import cards, load
from rewards.spec import parse_rewards

WORDS = ("ANCHOR", "basket", "COFFEE", "dragon", "EMPIRE", "flower", "GINGER", "hammer")
VARIANTS = ("ocr[weights=v4]", "ocr[detect=false]", "ocr[padding=none]", "ocr[channels=bgr]")
SIZES = ((160, 64), (96, 32), (128, 64), (128, 128), (200, 48), (64, 32), (320, 64), (192, 96))


@pytest.fixture(scope="module", params=[*(card.name for card in cards()), *VARIANTS])
def reward(request):
    if "v4" in request.param and importlib.util.find_spec("rapidocr_onnxruntime") is None:
        pytest.skip("PP-OCRv4 weights come with rapidocr_onnxruntime (pip install 'dgpo[demo]')")
    return load(parse_rewards([request.param])[0])


@pytest.fixture(scope="module")
def images(word_image):
    sized = zip(WORDS, SIZES, strict=True)
    return [word_image(word, width=w, height=h, look=look) for look, (word, (w, h)) in enumerate(sized)]


@pytest.fixture(scope="module")
def prompts():
    return [Prompt(f'a sign that says "{word}"') for word in WORDS]


@pytest.fixture(scope="module")
def scores(reward, images, prompts):
    return reward.score(images, prompts)


def test_prompts_pass_the_check(reward, prompts):
    for prompt in prompts:
        reward.check(prompt)


def test_a_batch_of_eight_is_eight_batches_of_one(reward, images, prompts, scores):
    pairs = zip(images, prompts, strict=True)
    assert [score for image, prompt in pairs for score in reward.score([image], [prompt])] == scores


def test_order_does_not_matter(reward, images, prompts, scores):
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    permuted = reward.score([images[i] for i in order], [prompts[i] for i in order])
    assert permuted == [scores[i] for i in order]


def test_the_same_images_have_the_same_scores(reward, images, prompts, scores):
    assert reward.score(images, prompts) == scores


def test_values_are_within_the_bounds_of_the_card(reward, scores):
    low, high = reward.card.bounds
    for score in scores:
        assert score.ok
        assert low is None or score.value >= low
        assert high is None or score.value <= high


def test_scores_tell_images_apart(reward, images, prompts, scores):
    """A reward stuck at one number would pass all the other tests."""
    blank = [Image.new("RGB", image.size, (90, 90, 90)) for image in images]
    assert reward.score(blank, prompts) != scores


def test_a_png_round_trip_changes_nothing(reward, images, prompts, scores):
    again = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        again.append(Image.open(io.BytesIO(buffer.getvalue())))
    assert reward.score(again, prompts) == scores


def test_what_cannot_be_judged_is_never_a_number(reward, images, prompts, scores):
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG")
    truncated = Image.open(io.BytesIO(buffer.getvalue()[:-60]))
    spoilt = [truncated, Image.new("RGB", (0, 5)), *images[2:]]
    result = score_batch({"it": reward}, spoilt, prompts).scores["it"]
    for score in result[:2]:
        assert score.value is None
        assert score.reason
    assert result[2:] == scores[2:]


def test_a_failing_engine_is_a_failed_score(reward, images, prompts, monkeypatch):
    """Break what each reward measures with, below the reward itself."""

    def fail(*_args, **_kwargs):
        raise RuntimeError("out of memory")

    if hasattr(reward, "engine"):
        monkeypatch.setattr(reward.engine, "_engine", fail)
    else:
        monkeypatch.setattr(type(reward), "measure", fail)
    result = score_batch({"it": reward}, images, prompts).scores["it"]
    assert [score.value for score in result] == [None] * 8
    assert all("out of memory" in score.reason for score in result)
