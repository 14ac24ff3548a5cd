"""One look an image: equal images, earlier calls, and a memory that ends."""

import numpy as np
from PIL import Image

from rewards.geneval.detection_cache import DetectionCache


class Eye:
    """A detector that says of each image only how bright it is, and keeps a list of what it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, images):
        self.shown += [image.getpixel((0, 0)) for image in images]
        return [[(np.full((1, 5), image.getpixel((0, 0)), np.float32), np.ones((1, 8, 8), bool))] for image in images]


def grey(value):
    return Image.new("L", (8, 8), value)


def values(raws):
    return [int(raw[0][0][0, 0]) for raw in raws]


def test_an_image_is_looked_at_once_and_answers_keep_the_order():
    eye = Eye()
    detector = DetectionCache(eye)
    assert values(detector.look([grey(5), grey(3), grey(5)])) == [5, 3, 5]
    assert values(detector.look([grey(3), grey(7), grey(5)])) == [3, 7, 5]
    assert eye.shown == [5, 3, 7]
    assert detector.look([]) == []


def test_the_least_recently_seen_is_forgotten_first():
    eye = Eye()
    each = 5 * 4 + 8 * 8
    detector = DetectionCache(eye, memory=2 * each)
    for value in (1, 2, 1, 3):
        detector.look([grey(value)])
    detector.look([grey(1)])
    assert eye.shown == [1, 2, 3]
    detector.look([grey(2)])
    assert eye.shown == [1, 2, 3, 2]


def test_a_call_larger_than_the_memory_is_answered_in_full():
    detector = DetectionCache(Eye(), memory=1)
    assert values(detector.look([grey(value) for value in range(9)])) == list(range(9))
