"""Answers of HTTP servers, read within bounds of size and time: one that drips or never ends is no answer."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.escape import escape_controls

MOST_BYTES = 2**24


class Unbounded(Exception):
    """An answer is longer than it may be, or takes longer."""


@dataclass(frozen=True)
class Reply:
    """A whole answer, small enough."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """For people to read."""
        return escape_controls(self.content.decode("utf-8", "replace"))

    def json(self) -> Any:
        """ValueError where it is none, or nested beyond reason."""
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ValueError("JSON that is nested too deeply") from None


class Bounds:
    """What one answer may still take; `add` each piece as it comes."""

    def __init__(self, seconds: float, most: int = MOST_BYTES) -> None:
        self.seconds, self.most = seconds, most
        self.end, self.pieces = time.monotonic() + seconds, bytearray()

    def add(self, piece: bytes) -> None:
        self.pieces += piece
        if len(self.pieces) > self.most:
            raise Unbounded(f"an answer of more than {self.most} bytes")
        if time.monotonic() > self.end:
            raise self.too_slow()

    def too_slow(self) -> Unbounded:
        return Unbounded(f"an answer that was not complete within {self.seconds:g} s")
