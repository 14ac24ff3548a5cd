"""Where an iteration's images come from, each with its scores on the way."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from dgpo.batch import Batch
from rewards.pool import Scored


@dataclass(frozen=True)
class Drawn:
    """A batch whose scores are being made."""

    batch: Batch
    scored: list[Future[Scored]]
    """Of this rank's images that were made, in the order of `batch.image_B`."""
    handing_s: float = 0.0
    """Seconds spent handing images over to be scored; with workers=0 they are scored in that time."""
    passes: int | None = None
    """Passes through the network that drew this rank's images, where they were drawn; None where there were none."""
    merged: bool = False
    """Whether the images were drawn by merged weights (`rollout.merge`)."""

    def divide(self, clock: Sequence[float]) -> dict[str, float]:
        """Seconds of drawing, scoring and learning, by the times at which each began and the last ended."""
        began, drawn, scored, learned = clock
        draw_s, score_s = drawn - began - self.handing_s, scored - drawn + self.handing_s
        return {"draw": draw_s, "score": score_s, "learn": learned - scored}


class Source(Protocol):
    """Gives the batch of every iteration; the same step gives the same batch, so resuming needs no state."""

    def draw(self, step: int) -> Drawn:
        """This rank's share of the batch of iteration `step` (from 0)."""
        ...
