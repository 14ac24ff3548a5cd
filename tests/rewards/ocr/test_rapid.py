import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from rewards.errors import ScoringError, SetupError
from rewards.ocr.models import Model, OcrModels, find_models
from rewards.ocr.rapid import RapidEngine

RECORDED = json.loads((Path(__file__).parents[2] / "golden/ocr/recognised.json").read_text(encoding="utf-8"))
NAMES = sorted(RECORDED["paddleocr291_paddle262_bgr"])
WORDS = ("ANCHOR", "basket", "COFFEE", "dragon", "EMPIRE", "flower")

needs_v4 = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None,
    reason="PP-OCRv4 weights come with rapidocr_onnxruntime (pip install 'dgpo[demo]')",
)


@pytest.fixture(scope="module")
def v6():
    return RapidEngine(find_models(None, "v6"), detect=True)


@pytest.fixture(scope="module")
def v4():
    return RapidEngine(find_models(None, "v4"), detect=True)


@needs_v4
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("row", "channels", "tolerance"),
    [("paddleocr291_paddle262_bgr", "bgr", 0.005), ("paddleocr291_paddle262_rgb_as_flow_grpo", "rgb", 0.05)],
)
def test_reads_what_paddleocr_291_reads_with_the_same_weights(v4, golden_image, name, row, channels, tolerance):
    lines = v4.read(golden_image(name, channels))
    expected = RECORDED[row][name]
    assert [text for text, _ in lines] == [text for text, _ in expected]
    assert [score for _, score in lines] == pytest.approx([score for _, score in expected], abs=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_reads_the_confident_lines_of_paddleocr_37_with_v6(v6, golden_image, name):
    """PaddleOCR 3.7 keeps lines of any confidence, this engine those from 0.5 on; values differ by up to 0.07."""
    expected = [text for text, score in RECORDED["paddleocr37_onnxruntime_v6small_default"][name] if score >= 0.6]
    assert [text for text, score in v6.read(golden_image(name, "bgr")) if score >= 0.6] == expected


@pytest.mark.parametrize("padding", [320, 48])
@pytest.mark.parametrize("detect", [True, False])
def test_small_words_are_read(word_image, detect, padding):
    engine = RapidEngine(find_models(None, "v6"), detect=detect, padding=padding)
    for look, word in enumerate(WORDS):
        lines = engine.read(np.asarray(word_image(word, width=96, height=32, look=look)))
        assert [text for text, _ in lines] == [word]
        assert 0.5 <= lines[0][1] <= 1


def test_blank_image_holds_no_line(v6):
    assert v6.read(np.full((64, 64, 3), 255, np.uint8)) == []


def test_without_detection_a_blank_image_reads_as_an_empty_line():
    engine = RapidEngine(find_models(None, "v6"), detect=False)
    assert "".join(text for text, _ in engine.read(np.full((32, 64, 3), 255, np.uint8))) == ""


def test_too_small_for_the_detector_is_a_failure_not_a_blank(v6):
    with pytest.raises(ScoringError, match="side below 16 pixels"):
        v6.read(np.zeros((15, 200, 3), np.uint8))
    assert v6.read(np.zeros((16, 200, 3), np.uint8)) == []


def test_what_the_engine_raises_is_a_scoring_error(v6):
    with pytest.raises(ScoringError, match=r"rapidocr failed: .+"):
        v6.read(np.zeros((64, 64, 3), np.complex128))


def test_alphabet_from_inference_yml_reads_the_same(tmp_path, v6, word_image):
    wheel = find_models(None, "v6")
    path = tmp_path / "plain_rec.onnx"
    path.write_bytes(wheel.recognition.path.read_bytes().replace(b"\x09character", b"\x09charactex"))
    settings = {"PostProcess": {"character_dict": wheel.recognition.characters}}
    (tmp_path / "inference.yml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    engine = RapidEngine(OcrModels(wheel.detection, Model(path)), detect=True)
    image = np.asarray(word_image("ANCHOR"))
    assert engine.read(image) == v6.read(image) != []


def test_paddle_folders_are_sent_to_the_other_engine(tmp_path):
    with pytest.raises(SetupError, match="use engine=paddleocr"):
        RapidEngine(OcrModels(find_models(None, "v6").detection, Model(tmp_path)), detect=True)
