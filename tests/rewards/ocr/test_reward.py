import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.errors import ScoringError, SetupError, UsageError
from rewards.ocr.reward import build_engine
from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.score import Score

CASES = json.loads((Path(__file__).parents[2] / "golden/ocr/reward_cases.json").read_text(encoding="utf-8"))["cases"]
PIXEL = Image.new("RGB", (1, 1))


class Reading:
    """An engine that reads what it is told, or fails; keeps what it was shown."""

    def __init__(self, lines):
        self.lines = lines
        self.seen = []

    def read(self, image):
        self.seen.append(image)
        if self.lines == "raise":
            raise ScoringError("the engine broke")
        return [(text, confidence) for text, confidence in self.lines or []]


def build(text) -> Any:
    return load(parse_rewards([text])[0])


def reward_reading(name, lines):
    reward = build(name)
    reward.engine = Reading(lines)
    return reward


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
@pytest.mark.parametrize(("name", "column"), [("ocr", "flow_grpo"), ("ocr-strict", "paper_formula_raw")])
def test_recorded_cases_through_the_whole_reward(case, name, column):
    reward = reward_reading(name, case["lines"])
    prompt = Prompt(case["prompt"])
    expected = case[column]["reward"] if column == "flow_grpo" and "reward" in case[column] else case[column]
    if "error" in case["flow_grpo"] or case["note"].endswith("one space target"):
        with pytest.raises(UsageError, match="quotes"):
            reward.check(prompt)
        with pytest.raises(UsageError, match="quotes"):
            reward.score([PIXEL], [prompt])
        return
    reward.check(prompt)
    (score,) = reward.score([PIXEL], [prompt])
    assert score.value == pytest.approx(expected, abs=1e-12)
    assert score.detail == " | ".join(text for text, _ in case["lines"] or [])


@pytest.mark.parametrize("name", ["ocr", "ocr-strict"])
def test_an_engine_that_raises_fails_the_score(name):
    scores = reward_reading(name, "raise").score([PIXEL, PIXEL], [Prompt('"EXIT"')] * 2)
    assert scores == [Score.failed("the engine broke")] * 2


def test_channels_decide_the_order_the_engine_sees():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    for text, first in (("ocr", 255), ("ocr[channels=bgr]", 0)):
        reward = reward_reading(text, [])
        reward.score([red], [Prompt('"EXIT"')])
        assert reward.engine.seen[0].dtype == np.uint8
        assert reward.engine.seen[0][0, 0].tolist() == [first, 0, 255 - first]


def test_an_image_of_any_mode_is_read(word_image):
    reward = build("ocr")
    image = word_image("EXIT")
    for mode in ("L", "RGBA", "P"):
        (score,) = reward.score([image.convert(mode)], [Prompt('"EXIT"')])
        assert (score.value, score.detail) == (1.0, "EXIT")


def test_an_empty_image_fails_and_a_blank_one_scores_nothing():
    reward = build("ocr")
    empty, blank = reward.score([Image.new("RGB", (0, 0)), Image.new("RGB", (64, 64))], [Prompt('"EXIT"')] * 2)
    assert empty.value is None
    assert "empty" in empty.reason
    assert blank == Score(0.0)


def test_rewards_that_read_alike_share_one_engine():
    one, strict, other = (build(text) for text in ("ocr", "ocr-strict", "ocr[detect=false]"))
    assert one.engine is strict.engine
    assert one.engine is not other.engine


def test_provenance_names_engine_versions_and_checksums():
    record = build("ocr").provenance()
    assert record["engine"] == "rapidocr"
    assert record["engine_version"].startswith("rapidocr 3.")
    assert "onnxruntime" in record["engine_version"]
    assert "PP-OCRv6_det_small.onnx sha256:" in record["weights"]
    assert "PP-OCRv6_rec_small.onnx sha256:" in record["weights"]


def test_padding_is_refused_where_it_means_nothing():
    with pytest.raises(UsageError, match="padding=none is rapidocr's"):
        build_engine("paddleocr", "v6", None, True, "none")


def test_missing_folder_is_a_setup_error(tmp_path):
    with pytest.raises(SetupError, match="no such folder of OCR models"):
        load(parse_rewards(["ocr"], weights=[f"ocr={tmp_path / 'absent'}"])[0])
