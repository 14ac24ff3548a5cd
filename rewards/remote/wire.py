"""What travels between a client and a reward server: images as lossless PNG, prompts and scores as JSON."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL.Image import Image

from rewards.errors import ScoringError
from rewards.files import sha256_of
from rewards.images import DAMAGE, rgb
from rewards.prompt import Prompt
from rewards.score import Score

# Modes that PNG and Pillow give back as they were; others are sent as RGB.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_FASTEST = 1


def encode(image: Image) -> bytes:
    """An image as PNG; ScoringError when it has no pixels or is broken."""
    if image.width == 0 or image.height == 0:
        raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
    try:
        image = image if image.mode in _MODES else rgb(image)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=_FASTEST, icc_profile=None)
    except DAMAGE as error:
        raise ScoringError(f"the image cannot be decoded: {error}") from error
    return buffer.getvalue()


def write_prompt(prompt: Prompt) -> dict[str, Any]:
    return {"text": prompt.text, "spec": dict(prompt.spec)}


def mark_of(part: bytes | bytearray) -> str:
    """The name of an image's bytes, by which a client sees that a score is about this image."""
    return sha256_of(bytes(part))[:16]


def write_score(score: Score, prompt: Prompt, mark: str) -> dict[str, Any]:
    return {"value": score.value, "detail": score.detail, "reason": score.reason, "prompt": prompt.id, "image": mark}


def read_scores(document: Mapping[str, Any], parts: Sequence[bytes], prompts: Sequence[Prompt]) -> list[Score]:
    """The scores of an answer; ValueError when they are not one per image, in order, each about its own."""
    fields = document.get("scores")
    if not isinstance(fields, list) or len(fields) != len(parts):
        raise ValueError(f"not one score for each of {len(parts)} images")
    scores = []
    for number, (one, part, prompt) in enumerate(zip(fields, parts, prompts, strict=True)):
        if not isinstance(one, dict):
            raise ValueError(f"score {number} is no object")
        if (one.get("prompt"), one.get("image")) != (prompt.id, mark_of(part)):
            raise ValueError(f"score {number} is about another image or prompt")
        scores.append(_read_score(number, one))
    return scores


def _read_score(number: int, fields: Mapping[str, Any]) -> Score:
    value, detail, reason = fields.get("value"), fields.get("detail"), fields.get("reason")
    number_or_none = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if not (number_or_none and isinstance(detail, str) and isinstance(reason, str)):
        raise ValueError(f"score {number} is not made of value, detail and reason")
    return Score(value, detail, reason)


def json_bytes(prompt: Prompt) -> int:
    """Bytes of a prompt in a request, at most."""
    return len(json.dumps(write_prompt(prompt))) + 2


def cut(costs: Sequence[Sequence[int]], most: Sequence[int]) -> Iterator[slice]:
    """Consecutive ranges whose costs sum to `most` or less in every column; what is too large alone goes alone.

    >>> list(cut([(1, 5), (1, 5), (1, 5), (1, 90), (1, 5)], (2, 50)))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 5, None)]
    """
    start, sums = 0, [0] * len(most)
    for place, cost in enumerate(costs):
        grown = [total + more for total, more in zip(sums, cost, strict=True)]
        if place > start and any(total > limit for total, limit in zip(grown, most, strict=True)):
            yield slice(start, place)
            start, grown = place, list(cost)
        sums = grown
    if costs:
        yield slice(start, len(costs))
