"""From what a detector returns to the objects that GenEval counts.

Source: `evaluate_image` of evaluation/evaluate_images.py, github.com/djghosh13/geneval at
af4902f24d3ca90ebbb446dd9891a59e0f82725f, whose non-maximum suppression is off (threshold 1.0).

Legend: N objects of one class in one image; H, W the image's size in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rewards.geneval.objects import OBJECTS

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MOST_OBJECTS = 16

# One entry a class: rows (x0, y0, x1, y1, score) as float32 [N, 5] in the detector's order, and masks bool [N, H, W],
# or None from a detector that returns boxes only.
Raw: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True, eq=False)
class Found:
    """One object that counts: its box in pixels, its score in [0, 1], its mask as bool [H, W] if there is one.

    Two objects are equal only if they are the same one.
    """

    box: tuple[float, float, float, float]
    score: float
    mask: np.ndarray | None = None


def keep_objects(raw: Raw, tag: str) -> dict[str, list[Found]]:
    """The objects of each class that count for a prompt of the task `tag`, best first; classes without any are absent.

    At most `MOST_OBJECTS` a class, with a score strictly above the threshold, which is `COUNTING_THRESHOLD` for the
    task "counting" and `THRESHOLD` for every other. Scores and threshold are compared in float32: float32(0.3) is a
    little more than 0.3 and is not kept. Of equal scores the later in the detector's order comes first, up to 16 of
    a class; beyond that numpy's sort decides.
    """
    if len(raw) != len(OBJECTS):
        raise ValueError(f"a detector of {len(OBJECTS)} classes returns as many entries, and this one {len(raw)}")
    threshold = np.float32(COUNTING_THRESHOLD if tag == "counting" else THRESHOLD)
    kept = {name: _keep(rows, masks, threshold) for name, (rows, masks) in zip(OBJECTS, raw, strict=True)}
    return {name: found for name, found in kept.items() if found}


def _keep(rows: np.ndarray, masks: np.ndarray | None, threshold: np.float32) -> list[Found]:
    rows = np.asarray(rows, dtype=np.float32).reshape(-1, 5)
    scores = rows[:, 4]
    order = np.argsort(scores)[::-1]
    order = order[scores[order] > threshold][:MOST_OBJECTS]
    return [_found(rows[index].tolist(), None if masks is None else masks[index]) for index in order]


def _found(row: list[float], mask: np.ndarray | None) -> Found:
    x0, y0, x1, y1, score = row
    return Found((x0, y0, x1, y1), score, mask)
