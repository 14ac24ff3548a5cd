"""Canaries: a few pictures drawn here, whose scores must be the same alone, in any batch, and on any day of a run.

A reward that mixes up images or prompts betrays itself when the same pictures come in another order and one by one; a
server that came back with other weights betrays itself when they are scored again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from rewards.pool import Scored
from rewards.prompt import Prompt
from rewards.registry import card_of
from rewards.remote.address import is_address
from rewards.score import Score
from rewards.spec import RewardSpec

SIDE = 256
_BAND = 88
_PATCH = 64
# Colours that lie far apart for people and networks; a canary takes two neighbours.
_COLOURS = ("firebrick", "gold", "seagreen", "royalblue", "darkorange", "indigo", "turquoise", "sienna")
# By how much the same picture's score may differ, relative to max(1, |score|), where the card allows less.
HALF = {"fp16": 2e-3, "bf16": 1e-2}
REMOTE = 1e-2  # somebody else's server may compute in half precision

Scores: TypeAlias = dict[str, list[Score]]
Submit: TypeAlias = Callable[[Sequence[Image.Image], Sequence[Prompt]], "Future[Scored]"]


@dataclass(frozen=True)
class Canary:
    """One picture and the prompt it is scored for."""

    image: Image.Image
    prompt: Prompt


class Change(NamedTuple):
    """The canary `place` had one score from the reward `key`, and has another."""

    key: str
    place: int
    before: float
    after: float


def draw_canaries(prompts: Sequence[Prompt], count: int) -> list[Canary]:
    """A picture for each of the first `count` different prompts, which all rewards of a run are known to judge.

    Each shows what its prompt wants to be written (or its first word), on patches that differ from canary to canary.
    """
    distinct = list(dict.fromkeys(prompts))[:count]
    return [Canary(_draw(_words(prompt), place), prompt) for place, prompt in enumerate(distinct)]


def score_canaries(canaries: Sequence[Canary], submit: Submit) -> Scores:
    """All of them in one batch."""
    return _ask(canaries, submit).result().scores


def score_in_every_way(canaries: Sequence[Canary], submit: Submit) -> tuple[Scores, dict[str, Scores]]:
    """Their scores one by one, and by what was done instead: in one batch, and in one in reverse."""
    alone = [_ask([canary], submit) for canary in canaries]
    batch, reverse = _ask(canaries, submit), _ask(canaries[::-1], submit)
    batched = batch.result().scores
    single = {key: [one.result().scores[key][0] for one in alone] for key in batched}
    turned = {key: scores[::-1] for key, scores in reverse.result().scores.items()}
    return single, {"in one batch": batched, "in a batch in reverse order": turned}


def find_changes(
    before: Mapping[str, Sequence[float | None]], after: Mapping[str, Sequence[Score]], tolerance: Mapping[str, float]
) -> list[Change]:
    """Scores that differ by more than their reward's tolerance allows; a failed one is no change."""
    changes = []
    for key, scores in after.items():
        for place, (old, score) in enumerate(zip(before.get(key, ()), scores, strict=False)):
            new = score.checked().value
            if old is not None and new is not None and abs(new - old) > tolerance[key] * max(1.0, abs(old)):
                changes.append(Change(key, place, old, new))
    return changes


def values(scores: Mapping[str, Sequence[Score]]) -> dict[str, list[float | None]]:
    """The numbers alone; None where there is none."""
    return {key: [score.checked().value for score in row] for key, row in scores.items()}


def tells_apart(row: Sequence[float | None]) -> bool:
    """Whether a reward gave two canaries different scores: a sign of life."""
    made = [value for value in row if value is not None]
    return len(made) > 1 and not math.isclose(min(made), max(made), rel_tol=1e-6)


def tolerance_of(spec: RewardSpec) -> float:
    """How far apart two scores of one picture may be, relative to max(1, |score|)."""
    card = card_of(spec)
    defaults = {option.name: option.default for option in card.options}
    precision = {**defaults, **dict(spec.options)}.get("dtype", "fp32")
    away = REMOTE if is_address(spec.source or "") else 0.0
    return max(card.repeatability, HALF.get(precision, 0.0), away)


def _ask(canaries: Sequence[Canary], submit: Submit) -> "Future[Scored]":
    return submit([canary.image for canary in canaries], [canary.prompt for canary in canaries])


def _words(prompt: Prompt) -> str:
    """What the picture says: the quoted text of the prompt, or its first word."""
    pieces = prompt.text.split('"')
    wanted = pieces[1].strip() if len(pieces) > 2 else ""
    return wanted or next(iter(prompt.text.split()), "?")


def _draw(words: str, place: int) -> Image.Image:
    """Patches, a disc whose place and size depend on `place`, and black words on a white band."""
    ground, figure = (_COLOURS[(place + step) % len(_COLOURS)] for step in range(2))
    image = Image.linear_gradient("L").resize((SIDE, SIDE)).rotate(90 * place).convert("RGB")
    canvas = ImageDraw.Draw(image)
    for left in range(0, SIDE, 2 * _PATCH):
        canvas.rectangle((left, 0, left + _PATCH, SIDE // (2 + place % 3)), fill=ground)
    radius = 24 + 8 * (place % 4)
    canvas.circle((64 + 40 * (place % 4), SIDE - radius - 8), radius, fill=figure)
    top = (SIDE - _BAND) // 2
    canvas.rectangle((0, top, SIDE, top + _BAND), fill="white")
    canvas.text((SIDE / 2, SIDE / 2), words, fill="black", font=_fitting(words), anchor="mm")
    return image


def _fitting(words: str) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Letters as large as the band allows."""
    size = 56
    while size > 8 and ImageFont.load_default(size=size).getlength(words) > SIDE - 24:
        size -= 4
    return ImageFont.load_default(size=size)
