"""Cards of the rewards that read text in images."""

from rewards.card import Card, Option

_OCR_OPTIONS = (
    Option("engine", "rapidocr", ("rapidocr", "paddleocr"), "which program reads the image"),
    Option("weights", "v6", ("v6", "v4"), "PP-OCRv6 small or PP-OCRv4 mobile, where no --weights folder is given"),
    Option("detect", "true", ("true", "false"), "find the lines first; false: the whole image is one line of text"),
    Option("padding", "320", ("320", "none"), "width a short line is filled up to; none: faster, not as released"),
    Option(
        "channels", "rgb", ("rgb", "bgr"), "array order handed to the engine, which takes it for bgr (rgb: as released)"
    ),
)
_OCR_WEIGHTS = (
    "v6: in the wheel of rapidocr. v4: in the wheel of rapidocr_onnxruntime, pip install 'dgpo[demo]'. "
    "--weights ocr=DIR: a folder with a detection and a recognition model (files *det*.onnx and *rec*.onnx, or folders "
    "*det* and *rec* with one .onnx each or, for engine=paddleocr, Paddle's files with inference.yml)."
)
_OCR_LICENCE = "Apache-2.0 (engines and weights)"

CARDS: tuple[Card, ...] = (
    Card(
        name="ocr",
        version=1,
        unit="share of the quoted text",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence=_OCR_LICENCE,
        extra="ocr",
        summary="how much of the text in quotes can be read in the image; case, spaces and extra text do not count",
        options=_OCR_OPTIONS,
        weights=_OCR_WEIGHTS,
        entry="rewards.ocr.reward:ReleasedOcr",
        unpublished="",
        alone=True,
    ),
    Card(
        name="ocr-strict",
        version=1,
        unit="share of the quoted text",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence=_OCR_LICENCE,
        extra="ocr",
        summary="the paper's formula to the letter: case, spaces and extra text count",
        options=_OCR_OPTIONS,
        weights=_OCR_WEIGHTS.replace("ocr=DIR", "ocr-strict=DIR"),
        entry="rewards.ocr.reward:StrictOcr",
        unpublished="",
        alone=True,
    ),
)
