"""What is shown to a detector and what is said of it, by the trial before a training and by the check."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewards.errors import SetupError
from rewards.geneval import detector, prompts, self_check
from rewards.geneval.detection_cache import DetectionCache
from rewards.geneval.objects import OBJECTS
from rewards.geneval.self_test import find_pictures, insist_on_objects, show_pictures
from rewards.parse import parse_rewards
from rewards.registry import card_of
from rewards.trust.check import check

WEIGHTS = Path(__file__).parents[2] / "golden" / "geneval" / "geneval"


def eye(scores, shown=None):
    """A detector that finds one clock a picture, with the next of these scores."""
    rest = iter(scores)

    def detect(images):
        if shown is not None:
            shown.extend(images)
        return [[(rows(next(rest) if name == "clock" else None), None) for name in OBJECTS] for _ in images]

    return DetectionCache(detect)


def rows(score):
    return np.array([[0, 0, 9, 9, score]] if score is not None else [], np.float32).reshape(-1, 5)


def test_pictures_are_drawn_or_those_of_a_folder(tmp_path):
    assert list(find_pictures(None))[:2] == ["the drawn stop sign", "the drawn clock"]
    for number in range(20):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number:02}.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = find_pictures(tmp_path)
    assert list(pictures) == [f"{number:02}.PNG" for number in range(16)]
    assert {image.mode for image in pictures.values()} == {"RGB"}


def test_what_is_not_above_the_threshold_is_not_seen():
    pictures = {str(grey): Image.new("L", (9, 9), grey) for grey in range(3)}
    seen = dict(show_pictures(eye([0.3, 0.31, 0.2]), pictures))
    assert seen == {"0": {}, "1": {"clock": pytest.approx(0.31)}, "2": {}}


def test_the_first_picture_with_something_in_it_ends_the_trial():
    shown = []
    insist_on_objects("geneval", eye([0.1, 0.4, 0.9, 0.9, 0.9], shown), None)
    assert len(shown) == 2
    with pytest.raises(SetupError, match=r"geneval finds no object with a score above 0\.3"):
        insist_on_objects("geneval", eye([0.3] * 5), None)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(detector, "SHORT_SIDE", 160)
    monkeypatch.setattr(DetectionCache, "_remember", lambda *_: None)


def findings(weights=(), pictures=None):
    (spec,) = parse_rewards(["geneval"], weights=weights)
    return {one.what: one for one in check(spec, card_of(spec), pictures)}


def test_without_weights_rules_and_prompts_are_checked(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = findings()
    assert {what: one.result for what, one in found.items()} == {"rules": "ok", "prompts": "ok", "weights": "lacking"}
    assert prompts.METADATA_SHA256 in found["prompts"].words
    assert "dgpo rewards fetch geneval" in found["weights"].words


def test_broken_rules_have_failed(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def fail():
        raise SetupError("one dog")

    monkeypatch.setattr(self_check, "work_through", fail)
    assert (findings()["rules"].result, findings()["rules"].words) == ("failed", "one dog")


def test_with_weights_it_says_what_is_seen_and_what_that_does_not_prove(small):
    found = findings([f"geneval={WEIGHTS}"])
    (checkpoint,) = [one for what, one in found.items() if what.endswith("743b7d99.pth")]
    assert checkpoint.result == "differs"
    assert checkpoint.words.endswith("instead of 743b7d99")
    assert found["detector"].result == "ok"
    assert "the drawn stop sign: " in found["detector"].words
    assert found["published scores"].result == "not checked"
    assert "cannot prove a detector" in found["published scores"].words


def test_ones_own_photographs_are_shown_instead(small, tmp_path):
    assert findings([f"geneval={WEIGHTS}"], tmp_path)["detector"].result == "lacking"
    Image.open(WEIGHTS.parent / "detector" / "land.png").save(tmp_path / "street.png")
    words = findings([f"geneval={WEIGHTS}"], tmp_path)["detector"].words
    assert words.startswith("it finds something in 1 of 1 pictures (street.png: ")


def test_a_detector_that_sees_nothing_has_failed(small, monkeypatch):
    monkeypatch.setattr(DetectionCache, "look", lambda _, images: [[(rows(None), None)] * len(OBJECTS) for _ in images])
    found = findings([f"geneval={WEIGHTS}"])["detector"]
    assert found.result == "failed"
    assert "it finds something in 0 of 5 pictures, and what is drawn in 0; " in found.words
    assert "the drawn clock: nothing" in found.words
