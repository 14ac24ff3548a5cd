"""Score: the judgement of one image, or the reason why there is none."""

import math
from dataclasses import dataclass, replace

# How the reason begins of an image that kills whoever scores it; such a one is not tried again by itself.
DEADLY = "the scoring process died twice on this image alone"


@dataclass(frozen=True)
class Score:
    """A value in the reward's raw unit; None says that the image could not be judged, and `reason` says why.

    `detail` is what the judge saw on the way (the recognised text, say), for people to read.
    """

    value: float | None
    detail: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.reason):
            raise ValueError("a score has either a value or the reason why it has none")

    @classmethod
    def failed(cls, reason: str, detail: str = "") -> "Score":
        return cls(None, detail, reason)

    @property
    def ok(self) -> bool:
        return self.value is not None

    def checked(self) -> "Score":
        """This score as a plain float; failed when the value is not a finite number."""
        if self.value is None:
            return self
        try:
            value = float(self.value)
        except OverflowError:  # a whole number beyond all floats
            value = math.inf
        if not math.isfinite(value):
            return Score.failed(f"the reward returned {value}, which is not a finite number", self.detail)
        return replace(self, value=value)
