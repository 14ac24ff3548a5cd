"""Which objects count: by hand, at the thresholds, and with equal scores."""

import numpy as np
import pytest

from rewards.geneval.detections import Found, keep_objects
from rewards.geneval.objects import OBJECTS

NONE = np.zeros((0, 5), np.float32)


def rows_of(scores):
    """One row a score; the box's first side is the row's number."""
    return np.array([[place, 0, 9, 9, score] for place, score in enumerate(scores)], np.float32).reshape(-1, 5)


def raw_of(masks=None, **scores):
    return [(rows_of(scores[name]), masks) if name in scores else (NONE, None) for name in OBJECTS]


def places(found):
    return [int(one.box[0]) for one in found]


def test_best_first_and_nothing_of_classes_without_objects():
    kept = keep_objects(raw_of(dog=[0.4, 0.9, 0.1], cat=[0.2]), "colors")
    assert list(kept) == ["dog"]
    assert places(kept["dog"]) == [1, 0]
    assert kept["dog"][0].score == float(np.float32(0.9))


@pytest.mark.parametrize(("tag", "threshold"), [("colors", 0.3), ("a new task", 0.3), ("counting", 0.9)])
def test_the_threshold_is_strict_in_float32(tag, threshold):
    at = np.float32(threshold)
    above, below = np.nextafter(at, np.float32(1)), np.nextafter(at, np.float32(0))
    assert places(keep_objects(raw_of(dog=[at, above, below]), tag)["dog"]) == [1]


def test_float32_of_0_3_lies_above_0_3_and_is_not_kept():
    assert float(np.float32(0.3)) > 0.3
    assert keep_objects(raw_of(dog=[np.float32(0.3)]), "colors") == {}


def test_at_most_16_of_a_class():
    scores = np.linspace(0.5, 0.9, 20)
    assert places(keep_objects(raw_of(dog=scores), "colors")["dog"]) == list(range(19, 3, -1))


def test_the_limit_comes_after_the_threshold():
    scores = [0.95] * 3 + [0.5] * 17
    assert len(keep_objects(raw_of(dog=scores), "counting")["dog"]) == 3
    assert len(keep_objects(raw_of(dog=scores), "colors")["dog"]) == 16


def test_of_equal_scores_the_later_comes_first():
    assert places(keep_objects(raw_of(dog=[0.5, 0.7, 0.5, 0.7, 0.5]), "colors")["dog"]) == [3, 1, 4, 2, 0]


def test_masks_follow_their_boxes():
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 0, 0] = True
    first, second = keep_objects(raw_of(masks, dog=[0.4, 0.9]), "colors")["dog"]
    assert first.mask is not None
    assert second.mask is not None
    assert (first.mask.sum(), second.mask.sum()) == (1, 0)
    assert keep_objects(raw_of(dog=[0.4]), "colors")["dog"][0].mask is None


def test_two_objects_are_the_same_only_if_they_are_one():
    one, other = Found((0, 0, 1, 1), 0.5, np.ones((2, 2), bool)), Found((0, 0, 1, 1), 0.5, np.ones((2, 2), bool))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_a_detector_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"80 classes .* this one 79"):
        keep_objects(raw_of()[:79], "colors")
