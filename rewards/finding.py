"""Finding: one line of what was looked at of a reward on this machine, and how it came out."""

from dataclasses import dataclass
from typing import Literal

# failed: a number or hash is off. lacking: weights, pictures or a library are not here. differs: by the user's choice.
Result = Literal["ok", "failed", "lacking", "differs", "not checked"]


@dataclass(frozen=True)
class Finding:
    """Which reward, what was looked at, how it came out, and in words what was found."""

    reward: str
    what: str
    result: Result
    words: str
