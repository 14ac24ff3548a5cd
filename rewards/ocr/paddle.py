"""PaddleOCR 3 as an engine, put together so that it reads what PaddleOCR 2.9.1 reads with the same weights.

PaddleOCR 3's own pipeline cuts lines out differently (the smallest rectangle around the rounded corners, where 2.9.1
takes the corners themselves) and keeps lines of any confidence. So the two networks are run by PaddleOCR, and what lies
between them, ordering and cutting, is done here.
"""

import contextlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rewards.errors import ScoringError, SetupError, load_extra
from rewards.ocr.models import Model, OcrModels, onnx_failures

SAME_LINE_PX = 10
LEAST_CONFIDENCE = 0.5
LINES_AT_ONCE = 6


class PaddleEngine:
    """Reads text with PaddleOCR 3, on onnxruntime for .onnx models and on paddle for models in Paddle's format.

    Args:
        detect: find lines first; False takes the whole image for one line and keeps it whatever its confidence.
    """

    def __init__(self, models: OcrModels, *, detect: bool) -> None:
        # Else PaddleOCR looks for model hosts on the net while it is imported.
        os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
        paddleocr = load_extra("paddleocr", "paddleocr")
        self.models = models
        self.detect = detect
        self.version = f"paddleocr {importlib.metadata.version('paddleocr')}, {_runtime_version(models)}"
        self._cv2 = load_extra("cv2", "paddleocr")
        self._failures = (*onnx_failures(), self._cv2.error, RuntimeError, ValueError)
        models.check()
        try:
            self._recogniser = _start(paddleocr.TextRecognition, models.recognition, "rec")
            if detect:
                self._detector = _start(
                    paddleocr.TextDetection,
                    models.detection,
                    "det",
                    limit_side_len=960,
                    limit_type="max",
                    thresh=0.3,
                    box_thresh=0.6,
                    unclip_ratio=1.5,
                )
        except (*self._failures, KeyError, IndexError, OSError, NotImplementedError) as error:
            raise SetupError(f"paddleocr does not start with {models.recognition.folder}: {error}") from error

    def read(self, image: np.ndarray) -> list[tuple[str, float]]:
        """Lines of text with their confidence, top to bottom and left to right.

        Args:
            image: uint8 [height, width, 3], handed to the networks as it is (they were trained on blue-green-red).

        Raises:
            ScoringError: the engine failed on this image.
        """
        try:
            if not self.detect:
                return self._recognise([image])
            quads = self._detector.predict(image)[0]["dt_polys"]
            lines = self._recognise([cut_out(self._cv2, image, quad) for quad in reading_order(quads)])
        except self._failures as error:
            raise ScoringError(f"paddleocr failed: {error}") from error
        return [(text, confidence) for text, confidence in lines if text.strip() and confidence >= LEAST_CONFIDENCE]

    def _recognise(self, lines: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """Text of each line; like goes with like, narrow first, because a batch is as wide as its widest line."""
        order = sorted(range(len(lines)), key=lambda index: lines[index].shape[1] / lines[index].shape[0])
        results: list[tuple[str, float]] = [("", 0.0)] * len(lines)
        sorted_lines = [lines[index] for index in order]
        output = self._recogniser.predict(sorted_lines, batch_size=LINES_AT_ONCE) if lines else []
        for index, result in zip(order, output, strict=True):
            results[index] = (str(result["rec_text"]), float(result["rec_score"]))
        return results


def reading_order(quads: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Quads [4, 2] by the height of their first corner, and from left to right where heights differ by under 10 px."""
    ordered: list[np.ndarray] = []
    for quad in sorted(quads, key=lambda quad: (quad[0][1], quad[0][0])):
        place = len(ordered)
        while place and _stands_before(quad, ordered[place - 1]):
            place -= 1
        ordered.insert(place, quad)
    return ordered


def _stands_before(quad: np.ndarray, other: np.ndarray) -> bool:
    return abs(int(quad[0][1]) - int(other[0][1])) < SAME_LINE_PX and quad[0][0] < other[0][0]


def cut_out(cv2: Any, image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """The line inside a quad (corners clockwise from top left) as an upright image; a tall one is laid on its side."""
    corners = np.asarray(quad, dtype=np.float32)
    width, height = (int(max(_length(corners, *pair) for pair in pairs)) for pairs in _SIDES)
    upright = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    transform = cv2.getPerspectiveTransform(corners, upright)
    line = cv2.warpPerspective(
        image, transform, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.rot90(line) if height / width >= 1.5 else line


_SIDES = (((0, 1), (2, 3)), ((0, 3), (1, 2)))


def _length(corners: np.ndarray, one: int, other: int) -> float:
    return float(np.linalg.norm(corners[one] - corners[other]))


def _start(network: Any, model: Model, kind: str, **settings: Any) -> Any:
    generation = "PP-OCRv6_small" if "v6" in model.path.name.lower() else "PP-OCRv4_mobile"
    name = model.settings.get("Global", {}).get("model_name", f"{generation}_{kind}")
    if model.onnx:
        with _as_paddle_folder(model, name, kind) as folder:
            threads = {"intra_op_num_threads": 1}
            return network(
                model_name=name, model_dir=folder, device="cpu", engine="onnxruntime", engine_config=threads, **settings
            )
    # paddle 3.3 fails with its own accelerator on: ConvertPirAttribute2RuntimeAttribute.
    return network(
        model_name=name, model_dir=str(model.path), device="cpu", enable_mkldnn=False, cpu_threads=1, **settings
    )


@contextlib.contextmanager
def _as_paddle_folder(model: Model, name: str, kind: str) -> Iterator[str]:
    """PaddleOCR wants inference.onnx with an inference.yml beside it; write them where they are missing."""
    if model.path.name == "inference.onnx" and model.settings:
        yield str(model.folder)
        return
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(model.path, Path(folder) / "inference.onnx")
        settings = model.settings or _settings(model, name, kind)
        text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
        (Path(folder) / "inference.yml").write_text(text, encoding="utf-8")
        yield folder


def _settings(model: Model, name: str, kind: str) -> dict[str, Any]:
    read = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}
    if kind == "rec":
        resize = {"RecResizeImg": {"image_shape": [3, 48, 320]}}
        decode = {"name": "CTCLabelDecode", "character_dict": model.characters}
        return {
            "Global": {"model_name": name},
            "PreProcess": {"transform_ops": [read, resize]},
            "PostProcess": decode,
        }
    normalise = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": "1./255.", "order": ""}
    steps = [read, {"DetResizeForTest": {"resize_long": 960}}, {"NormalizeImage": normalise}, {"ToCHWImage": None}]
    return {
        "Global": {"model_name": name},
        "PreProcess": {"transform_ops": steps},
        "PostProcess": {"name": "DBPostProcess", "max_candidates": 1000},
    }


def _runtime_version(models: OcrModels) -> str:
    package = "onnxruntime" if models.recognition.onnx else "paddlepaddle"
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        raise SetupError(
            f"{models.recognition.path} needs {package}, which is not installed: pip install {package}"
        ) from None
