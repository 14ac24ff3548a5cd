"""From what a judge wrote to a score: the number behind 'Final Score:', or a reason why there is none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rewards.score import Score

LOW, HIGH = 1.0, 5.0
UNPARSED = 0.0  # of the published protocol
AXES = ("alignment", "coherence", "style")
_PUBLISHED = re.compile(r"Final Score:\s*([1-5](?:\.\d+)?)")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_FINAL = re.compile(r"Final Score:\s*" + _NUMBER)
_AXIS = {axis: re.compile(rf"{axis.capitalize()} Score(?: \(1-5\))?:\s*{_NUMBER}") for axis in AXES}
_SHOWN = 2000


@dataclass(frozen=True)
class Reply:
    """What a judge wrote; `cut` where it was stopped by the limit of tokens."""

    text: str
    cut: bool = False


def read_published(reply: Reply) -> Score:
    """As DGPO, Flow-GRPO and DiffusionNFT read it: the first match of their pattern, and 0 where there is none.

    The pattern takes "10" for 1 and "5.75" for 5.75; that is what the published numbers contain.
    """
    match = _PUBLISHED.search(reply.text)
    return Score(float(match[1]) if match else UNPARSED, shorten(reply.text))


def read_final(reply: Reply) -> Score:
    """The first number behind 'Final Score:', which has to be one from 1 to 5; otherwise there is no score."""
    return _read(reply, {"Final Score": _FINAL})


def read_axes(reply: Reply, axis: str) -> Score:
    """One of the three scores that UnifiedReward 2.0 gives, or their mean; all that are asked for have to be there."""
    wanted: Sequence[str] = AXES if axis == "mean" else (axis,)
    return _read(reply, {f"{name.capitalize()} Score": _AXIS[name] for name in wanted})


def shorten(text: str) -> str:
    """A reply as it is kept beside its score: whole, or beginning and end of a very long one."""
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]} [... {len(text) - _SHOWN} characters ...] {text[-half:]}"


def _read(reply: Reply, patterns: dict[str, re.Pattern[str]]) -> Score:
    values = []
    for name, pattern in patterns.items():
        match = pattern.search(reply.text)
        if match is None:
            where = " before it reached its limit of tokens (option max_new_tokens)" if reply.cut else ""
            return _refuse(reply, f"the judge's reply has no '{name}: <number>'{where}")
        value = float(match[1])
        if not LOW <= value <= HIGH:
            return _refuse(reply, f"the judge's reply gives '{name}: {match[1]}', which is not from 1 to 5")
        values.append(value)
    return Score(fmean(values), shorten(reply.text))


def _refuse(reply: Reply, reason: str) -> Score:
    return Score.failed(reason, shorten(reply.text))
