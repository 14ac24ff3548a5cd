"""OCR rewards: can the text that the prompt quotes be read in the image?

`ocr` scores by the rules of the released training code, `ocr-strict` by the formula the paper prints; both read with
the same engine. An engine that fails gives a failed score, never a zero.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL.Image import Image

from rewards.card import Card
from rewards.errors import ScoringError, SetupError, UsageError
from rewards.finding import Finding
from rewards.images import rgb
from rewards.ocr.models import OcrModels, find_models
from rewards.ocr.self_check import read_drawn_word
from rewards.ocr.text import join_all, join_confident, quoted_target, similarity, strict_similarity
from rewards.prompt import Prompt
from rewards.reward import Reward
from rewards.score import Score
from rewards.shared import sharing
from rewards.spec import RewardSpec

LINE_BREAK = " | "


class Engine(Protocol):
    """A program that reads text; `read` raises ScoringError where it fails."""

    models: OcrModels
    version: str

    def read(self, image: np.ndarray) -> list[tuple[str, float]]: ...


class _Ocr(Reward):
    """Read the image, then compare; what differs between the two rewards is the comparison."""

    large = ("engine",)

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.options = card.settle_options(spec.options)
        self.swap_channels = self.options["channels"] == "bgr"
        _ = self.engine  # what is missing is said now

    @cached_property
    def engine(self) -> Engine:
        engine, weights, detect, padding = (self.options[name] for name in ("engine", "weights", "detect", "padding"))
        return build_engine(engine, weights, self.spec.weights, detect == "true", padding)

    def compare(self, lines: Sequence[tuple[str, float]], target: str) -> float:
        raise NotImplementedError

    def check(self, prompt: Prompt) -> None:
        quoted_target(prompt)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [self._score_one(image, quoted_target(prompt)) for image, prompt in zip(images, prompts, strict=True)]

    def provenance(self) -> dict[str, str]:
        name, _, _ = self.engine.version.partition(" ")
        return {"engine": name, "engine_version": self.engine.version, "weights": self.engine.models.checksums()}

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        try:
            return [Finding(self.spec.key, "drawn word", "ok", read_drawn_word(self))]
        except SetupError as error:
            return [Finding(self.spec.key, "drawn word", "failed", str(error))]

    def _score_one(self, image: Image, target: str) -> Score:
        try:
            lines = self.engine.read(self._pixels(image))
        except ScoringError as error:
            return Score.failed(str(error))
        return Score(self.compare(lines, target), LINE_BREAK.join(text for text, _ in lines))

    def _pixels(self, image: Image) -> np.ndarray:
        if image.width == 0 or image.height == 0:
            raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
        pixels = np.asarray(rgb(image))
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.swap_channels else pixels


class ReleasedOcr(_Ocr):
    """`ocr`: the rules that produced the published numbers (see rewards.ocr.text.similarity)."""

    def compare(self, lines: Sequence[tuple[str, float]], target: str) -> float:
        return similarity(join_confident(lines), target)


class StrictOcr(_Ocr):
    """`ocr-strict`: the paper's formula on the text as it was read (see rewards.ocr.text.strict_similarity)."""

    def compare(self, lines: Sequence[tuple[str, float]], target: str) -> float:
        return strict_similarity(join_all(lines), target)


@sharing(lambda engine, _: ("cpu", engine.models.size))
def build_engine(engine: str, weights: str, folder: str | None, detect: bool, padding: str) -> Engine:
    """One engine for all rewards of this process that read in the same way."""
    if engine == "paddleocr":
        from rewards.ocr.paddle import PaddleEngine

        if padding != "320":
            raise UsageError("The option padding=none is rapidocr's; leave it out for paddleocr.")
        return PaddleEngine(find_models(folder, weights), detect=detect)
    from rewards.ocr.rapid import RECOGNISER_HEIGHT, RapidEngine

    width = int(padding) if padding != "none" else RECOGNISER_HEIGHT
    return RapidEngine(find_models(folder, weights), detect=detect, padding=width)
