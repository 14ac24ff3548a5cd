"""Each image is encoded once, whoever asks, and the answer is the same as without a memory."""

import io
import threading

import pytest
import torch
from PIL import Image

from rewards.errors import ScoringError
from rewards.networks.features import Features, Memory, content_key


def prepare(image):
    if image.width == 0:
        raise ScoringError("the image is empty")
    return torch.tensor([[[float(image.convert("L").getpixel((0, 0)))]]])


class Encoder:
    """Twice the pixel; counts what it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, pixels):
        self.batches.append(pixels.flatten().tolist())
        return 2 * pixels.flatten(1)


def grey(value, size=(3, 2), mode="L"):
    return Image.new(mode, size, value)


@pytest.fixture
def encoder():
    return Encoder()


def test_features_are_in_the_order_of_the_images(encoder):
    features = Features(prepare, encoder, batch=2)
    assert features.of([grey(value) for value in (5, 3, 4, 1, 2)]).tolist() == [[10], [6], [8], [2], [4]]
    assert encoder.batches == [[5, 3], [4, 1], [2]]


def test_an_image_is_encoded_once_in_a_call_and_over_calls(encoder):
    features = Features(prepare, encoder)
    assert features.of([grey(1), grey(2), grey(1)]).tolist() == [[2], [4], [2]]
    assert features.of([grey(3), grey(2)]).tolist() == [[6], [4]]
    assert encoder.batches == [[1, 2], [3]]


def test_forgetting_encodes_again(encoder):
    features = Features(prepare, encoder)
    features.of([grey(1)])
    features.forget()
    features.of([grey(1)])
    assert encoder.batches == [[1], [1]]


def test_the_least_recently_used_goes_first(encoder):
    features = Features(prepare, encoder, memory=Memory(2 * 4))  # two rows of one float
    features.of([grey(1), grey(2)])
    features.of([grey(1)])
    features.of([grey(3)])
    assert encoder.batches == [[1, 2], [3]]
    features.of([grey(1), grey(3)])
    assert encoder.batches == [[1, 2], [3]]
    features.of([grey(2)])
    assert encoder.batches == [[1, 2], [3], [2]]


def test_ways_that_share_a_memory_encode_equal_pixels_once(encoder):
    """The second way makes 4 of a 3, which the first made of a 4, and a 9 that is new."""
    memory = Memory()
    first = Features(prepare, encoder, memory=memory)
    second = Features(lambda image: prepare(image) + 1, encoder, memory=memory)
    assert first.of([grey(3), grey(4)]).flatten().tolist() == [6, 8]
    assert second.of([grey(3), grey(8)]).flatten().tolist() == [8, 18]
    assert encoder.batches == [[3, 4], [9]]


def test_a_call_larger_than_the_memory_is_answered(encoder):
    features = Features(prepare, encoder, batch=2, memory=Memory(4))
    assert features.of([grey(value) for value in range(5)]).flatten().tolist() == [0, 2, 4, 6, 8]


def test_what_was_encoded_before_a_bad_image_is_kept(encoder):
    features = Features(prepare, encoder, batch=2)
    with pytest.raises(ScoringError, match="empty"):
        features.of([grey(1), grey(2), grey(0, (0, 5)), grey(3)])
    assert features.of([grey(1), grey(2), grey(3)]).flatten().tolist() == [2, 4, 6]
    assert encoder.batches == [[1, 2], [3]]


def test_an_encoder_that_fails_leaves_no_feature_behind(encoder):
    def fail(_pixels):
        raise RuntimeError("out of memory")

    features = Features(prepare, fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        features.of([grey(1)])
    features.encode = encoder
    assert features.of([grey(1)]).tolist() == [[2]]


def test_threads_that_ask_at_once_all_get_their_answers(encoder):
    features = Features(prepare, encoder, memory=Memory(8))
    images = [grey(value) for value in range(40)]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(features.of(images))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.flatten().tolist() for answer in answers] == [[2.0 * value for value in range(40)]] * 4


def test_the_next_batch_is_prepared_while_one_is_encoded():
    """Encoding the first batch waits here until the second is prepared; without threads this would stand still."""
    ready = threading.Event()

    def announce(image):
        if image.getpixel((0, 0)) == 2:
            ready.set()
        return prepare(image)

    def wait(pixels):
        assert ready.wait(timeout=20)
        return pixels.flatten(1)

    assert Features(announce, wait, batch=1).of([grey(1), grey(2)]).tolist() == [[1], [2]]


def test_keys_tell_apart_what_looks_different():
    palette = Image.new("P", (2, 2))
    palette.putpalette([255, 0, 0])
    other = palette.copy()
    other.putpalette([0, 255, 0])
    images = [grey(1), grey(2), grey(1, (2, 3)), grey((1, 1, 1), mode="RGB"), grey((1, 1, 1, 0), mode="RGBA")]
    images += [grey((1, 1, 1, 255), mode="RGBA"), palette, other]
    assert len({content_key(image) for image in images}) == len(images)


def test_a_png_round_trip_keeps_the_key():
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([255, 0, 0, 3, 2, 1])
    for image in (grey(1), grey((1, 2, 3), mode="RGB"), grey((1, 2, 3, 4), mode="RGBA")):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        assert content_key(Image.open(buffer)) == content_key(image)
