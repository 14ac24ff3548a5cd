"""RapidOCR as an engine, set up so that it reads what PaddleOCR 2.9.1 reads with the same weights."""

import importlib.metadata
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from rewards.errors import ScoringError, SetupError, load_extra
from rewards.ocr.models import OcrModels, onnx_failures

SMALLEST_SIDE = 16  # the detector works on multiples of 32 pixels and rounds less than this to none
RECOGNISER_HEIGHT = 48

# PaddleOCR 2.9.1's own values; each differs from RapidOCR's default or could. Nothing is resized before detection, no
# line is turned, lines below a confidence of 0.5 are dropped. One thread: images are small and workers are many.
PADDLE_291_SETTINGS: dict[str, Any] = {
    "Global.use_cls": False,
    "Global.text_score": 0.5,
    "Global.width_height_ratio": -1,
    "Global.min_height": 0,
    "Global.use_preprocess_img": False,
    "Global.log_level": "critical",
    "Det.mean": [0.485, 0.456, 0.406],
    "Det.std": [0.229, 0.224, 0.225],
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
    "Det.thresh": 0.3,
    "Det.box_thresh": 0.6,
    "Det.unclip_ratio": 1.5,
    "Det.use_dilation": False,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


class RapidEngine:
    """Reads text with RapidOCR 3 and ONNX models.

    Args:
        detect: find lines first; False takes the whole image for one line and keeps it whatever its confidence.
        padding: the width in pixels to which a line of height 48 is filled up before it is read. 320 as released;
            48 fills nothing up, which is three times as fast on small images and reads nearly the same.
    """

    def __init__(self, models: OcrModels, *, detect: bool, padding: int = 320) -> None:
        rapidocr = load_extra("rapidocr", "ocr")
        self.models = models
        self.detect = detect
        self.version = _versions("rapidocr", "onnxruntime")
        for model in (models.detection, models.recognition):
            if not model.onnx:
                raise SetupError(f"rapidocr reads ONNX, and {model.path} is Paddle's format; use engine=paddleocr.")
        models.check()
        self._failures = (*onnx_failures(), *_rapidocr_failures(), RuntimeError, ValueError)
        with ExitStack() as stack:
            settings = {
                **PADDLE_291_SETTINGS,
                "Det.model_path": str(models.detection.path),
                "Rec.model_path": str(models.recognition.path),
                "Rec.rec_img_shape": [3, RECOGNISER_HEIGHT, padding],
            }
            if not models.recognition.has_own_characters:
                settings["Rec.rec_keys_path"] = _write_characters(stack, models.recognition.characters)
            self._engine = rapidocr.RapidOCR(params=settings)
            self._load_networks()

    def read(self, image: np.ndarray) -> list[tuple[str, float]]:
        """Lines of text with their confidence, top to bottom and left to right.

        Args:
            image: uint8 [height, width, 3], handed to the networks as it is (they were trained on blue-green-red).

        Raises:
            ScoringError: the engine failed on this image.
        """
        if self.detect and min(image.shape[:2]) < SMALLEST_SIDE:
            raise ScoringError(f"rapidocr cannot find text in an image with a side below {SMALLEST_SIDE} pixels")
        try:
            output = self._engine(image, use_det=self.detect, use_cls=False, use_rec=True)
        except self._failures as error:
            raise ScoringError(f"rapidocr failed: {_last_line(error)}") from error
        if output.txts is None:
            return []
        return [(text, float(score)) for text, score in zip(output.txts, output.scores, strict=True)]

    def _load_networks(self) -> None:
        """RapidOCR loads a network when it first needs it; have both now, so that a failure is a failure to start."""
        blank = np.full((64, 64, 3), 255, np.uint8)
        try:
            if self.detect:
                self._engine(blank, use_det=True, use_cls=False, use_rec=False)
            self._engine(blank, use_det=False, use_cls=False, use_rec=True)
        except self._failures as error:
            raise SetupError(f"rapidocr does not start with {self.models.recognition.folder}: {error}") from error


def _write_characters(stack: ExitStack, characters: list[str]) -> str:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path = Path(folder) / "characters.txt"
    path.write_text("\n".join(characters) + "\n", encoding="utf-8")
    return str(path)


_OWN_FAILURES = (
    ("rapidocr.inference_engine.onnxruntime.main", "ONNXRuntimeError"),
    ("rapidocr.ch_ppocr_det.utils", "ResizeImgError"),
    ("rapidocr.utils.load_image", "LoadImageError"),
)


def _rapidocr_failures() -> tuple[type[Exception], ...]:
    """RapidOCR's exceptions, which share no base class but Exception."""
    own = (getattr(load_extra(module, "ocr"), name) for module, name in _OWN_FAILURES)
    return (load_extra("cv2", "ocr").error, *own)


def _last_line(error: Exception) -> str:
    """RapidOCR puts a whole traceback into its messages; the last line says what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
