"""What a table of means does not show, as findings a person can judge.

Did the model see the suite's prompts in training? How many images could not be scored? Did the pictures grow dark, bare
or all alike while the reward rose? Were two folders scored alike? And in one line: was a reward over-optimised?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FINE, LOOK, BAD, UNKNOWN = "fine", "look", "bad", "unknown"
VERDICTS = (FINE, LOOK, BAD, UNKNOWN)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it was, how it stands, a sentence about it, and the numbers behind it.

    `verdict` is fine, look (a person should), bad, or unknown (nothing here tells). `rows` are cells of text under the
    names in `head`; both are empty where the sentence says all.
    """

    title: str
    verdict: str
    sentence: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS, self.verdict
        assert all(len(row) == len(self.head) for row in self.rows), "a cell for each name"


def examine(folders: Sequence[Path], base: Path | None = None) -> list[Finding]:
    """The findings about results folders, each compared with `base` (the first one, if none is named)."""
    return []
