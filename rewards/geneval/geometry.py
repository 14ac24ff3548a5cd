"""Where one box lies as seen from another, as GenEval decides it.

Source: `relative_position` of evaluation/evaluate_images.py, github.com/djghosh13/geneval at
af4902f24d3ca90ebbb446dd9891a59e0f82725f. Boxes are (x0, y0, x1, y1) in pixels, y pointing down; further entries, such
as a score, are ignored.
"""

import math
from collections.abc import Sequence

RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
MARGIN = 0.1  # share of both boxes' size that the centres must be apart before it counts
LEAN = 0.5  # part of the centres' distance that must be left in one direction
TOO_CLOSE = 1e-3  # px


def relative_position(box: Sequence[float], target: Sequence[float]) -> frozenset[str]:
    """The relations in which `box` stands to `target`: none, one, or two on a diagonal.

    The offset of the centres is shortened on each axis by `MARGIN` times the sum of both boxes' sizes, then divided by
    the length of the offset *before* shortening; a relation holds where the quotient is strictly beyond `LEAN`. So wide
    boxes need to be further apart, and two relations hold at once only on diagonals far away.

    >>> relative_position((0, 40, 20, 60), (80, 40, 100, 60))
    frozenset({'left of'})
    """
    right, down = (_centre(box, axis) - _centre(target, axis) for axis in (0, 1))
    short_right = _shorten(right, MARGIN * (_size(box, 0) + _size(target, 0)))
    short_down = _shorten(down, MARGIN * (_size(box, 1) + _size(target, 1)))
    if max(abs(short_right), abs(short_down)) < TOO_CLOSE:
        return frozenset()
    distance = math.hypot(right, down)
    x, y = short_right / distance, short_down / distance
    holds = {"left of": x < -LEAN, "right of": x > LEAN, "above": y < -LEAN, "below": y > LEAN}
    return frozenset(relation for relation in RELATIONS if holds[relation])


def _centre(box: Sequence[float], axis: int) -> float:
    return (box[axis] + box[axis + 2]) / 2


def _size(box: Sequence[float], axis: int) -> float:
    return abs(box[axis + 2] - box[axis])


def _shorten(offset: float, margin: float) -> float:
    return math.copysign(max(abs(offset) - margin, 0.0), offset)
