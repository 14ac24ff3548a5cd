import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rewards.errors import SetupError
from rewards.ocr.models import find_models
from rewards.ocr.paddle import PaddleEngine, cut_out, reading_order

cv2 = pytest.importorskip("cv2", reason="cutting out lines needs opencv (pip install 'dgpo[ocr]')")
RECORDED = json.loads((Path(__file__).parents[2] / "golden/ocr/recognised.json").read_text(encoding="utf-8"))

needs_paddleocr = pytest.mark.skipif(
    importlib.util.find_spec("paddleocr") is None, reason="paddleocr is not installed (pip install 'dgpo[paddleocr]')"
)
needs_v4 = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None,
    reason="PP-OCRv4 weights come with rapidocr_onnxruntime (pip install 'dgpo[demo]')",
)


def quad(x, y, width=30, height=10):
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], dtype=np.int16)


def test_reading_order_is_down_then_right_within_ten_pixels():
    quads = [quad(5, 50), quad(60, 0), quad(0, 9), quad(30, 45), quad(0, 30)]
    order = [tuple(int(value) for value in one[0]) for one in reading_order(quads)]
    assert order == [(0, 9), (60, 0), (0, 30), (5, 50), (30, 45)]
    assert [tuple(one[0]) for one in reading_order([quad(60, 0), quad(0, 10)])] == [(60, 0), (0, 10)]
    assert reading_order([]) == []


def test_cut_out_of_an_upright_box_is_that_part_of_the_image():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    assert np.array_equal(cut_out(cv2, image, quad(8, 4, 30, 12)), image[4:16, 8:38])


def test_a_tall_line_is_laid_on_its_side():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    assert np.array_equal(cut_out(cv2, image, quad(8, 4, 10, 15)), np.rot90(image[4:19, 8:18]))
    assert cut_out(cv2, image, quad(8, 4, 10, 14)).shape == (14, 10, 3)


def test_without_paddleocr_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "paddleocr", None)
    with pytest.raises(SetupError, match=r"paddleocr, which is not installed: pip install 'dgpo\[paddleocr\]'"):
        PaddleEngine(find_models(None, "v6"), detect=True)


@pytest.fixture(scope="module")
def v4():
    return PaddleEngine(find_models(None, "v4"), detect=True)


@needs_paddleocr
@needs_v4
@pytest.mark.parametrize("name", sorted(RECORDED["paddleocr291_paddle262_bgr"]))
@pytest.mark.parametrize(
    ("row", "channels"), [("paddleocr291_paddle262_bgr", "bgr"), ("paddleocr291_paddle262_rgb_as_flow_grpo", "rgb")]
)
def test_reads_what_paddleocr_291_reads_with_the_same_weights(v4, golden_image, name, row, channels):
    lines = v4.read(golden_image(name, channels))
    expected = RECORDED[row][name]
    assert [text for text, _ in lines] == [text for text, _ in expected]
    assert [score for _, score in lines] == pytest.approx([score for _, score in expected], abs=0.01)


@needs_paddleocr
def test_v6_weights_of_the_wheel_read_a_word(word_image):
    for detect in (True, False):
        engine = PaddleEngine(find_models(None, "v6"), detect=detect)
        lines = engine.read(np.asarray(word_image("ANCHOR")))
        assert [text for text, _ in lines] == ["ANCHOR"]
