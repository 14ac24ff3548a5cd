"""The table of rewards: which exist, what they are, and how one is built."""

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rewards.card import Card, Option
from rewards.errors import SetupError, UsageError, suggestion

if TYPE_CHECKING:
    from rewards.reward import Reward
    from rewards.spec import RewardSpec

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
        entry="rewards.ocr:ReleasedOcr",
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
        entry="rewards.ocr:StrictOcr",
    ),
    Card(
        name="imagestats.dark",
        version=1,
        unit="share of pixels",
        bounds=(0.0, 1.0),
        higher_is_better=None,
        train_scale=1.0,
        licence="Apache-2.0",
        extra=None,
        summary="share of pixels that are nearly black",
        options=(),
        weights="none",
        entry="rewards.imagestats:DarkShare",
    ),
    Card(
        name="imagestats.edges",
        version=1,
        unit="mean Sobel gradient of luma",
        bounds=(0.0, 1.0),
        higher_is_better=None,
        train_scale=1.0,
        licence="Apache-2.0",
        extra=None,
        summary="how much of the image is edge",
        options=(),
        weights="none",
        entry="rewards.imagestats:EdgeDensity",
    ),
    Card(
        name="imagestats.colours",
        version=1,
        unit="bits",
        bounds=(0.0, 12.0),
        higher_is_better=None,
        train_scale=1.0,
        licence="Apache-2.0",
        extra=None,
        summary="entropy of the colours, 16 steps a channel",
        options=(),
        weights="none",
        entry="rewards.imagestats:ColourEntropy",
    ),
)

BUNDLES: dict[str, tuple[str, ...]] = {"imagestats": ("imagestats.dark", "imagestats.edges", "imagestats.colours")}


def cards() -> list[Card]:
    """All cards, as `dgpo rewards ls` shows them."""
    return list(CARDS)


def find_card(name: str, version: int | None = None) -> Card:
    """The card of a reward, the newest version unless one is named.

    Raises:
        UsageError: no such reward, or no such version of it.
    """
    versions = {card.version: card for card in CARDS if card.name == name}
    if not versions:
        raise UsageError(f'There is no reward "{name}".{suggestion(name, {card.name for card in CARDS})}')
    if version is None:
        return versions[max(versions)]
    if version not in versions:
        raise UsageError(f"The reward {name} has no version {version}.{suggestion(str(version), map(str, versions))}")
    return versions[version]


def load(spec: "RewardSpec") -> "Reward":
    """Build the reward that a spec describes; the one place where this happens.

    Raises:
        SetupError: its library or weights are missing, or its engine does not start.
    """
    card = find_card(spec.name, spec.version)
    module, _, name = card.entry.partition(":")
    return getattr(importlib.import_module(module), name)(spec, card)


def check_buildable(specs: "Iterable[RewardSpec]") -> None:
    """Build each reward once, so that what is missing is said before anything is drawn, and all of it at once.

    Raises:
        SetupError: one line for each reward that cannot be built.
    """
    missing = []
    for spec in specs:
        try:
            load(spec)
        except SetupError as error:
            missing.append(f"{spec.key}: {error}")
    if missing:
        raise SetupError("These rewards cannot be built here:\n" + "\n".join(missing))
