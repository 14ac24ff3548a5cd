"""Workers share a batch where its division changes no score."""

from concurrent.futures import CancelledError

import pytest
from PIL import Image

from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.scoring.batch import Scored
from rewards.scoring.lane import Batch
from rewards.scoring.pieces import divide, join

WHO = '''
import os, time
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Who(Reward):
    """Whose process judged, how many images beside, and which."""
    card = Card(name="who", version=1, unit="process", bounds=(None, None), higher_is_better=True, summary="",
                alone=ALONE)

    def score(self, images, prompts):
        time.sleep(0.3)
        return [Score(os.getpid(), f"{len(images)} {prompt.text}") for prompt in prompts]
'''


def batch_of(count, keys=("ocr@1", "net@1")):
    return Batch([Image.new("RGB", (1, 1), (number, 0, 0)) for number in range(count)], texts(count), keys)


def texts(count):
    return [Prompt(f"sign {number}") for number in range(count)]


@pytest.mark.parametrize(
    ("count", "workers", "expected"),
    [
        (16, 4, [("net@1", 16), ("ocr@1", 4), ("ocr@1", 4), ("ocr@1", 4), ("ocr@1", 4)]),
        (5, 2, [("net@1", 5), ("ocr@1", 2), ("ocr@1", 3)]),
        (2, 8, [("net@1", 2), ("ocr@1", 1), ("ocr@1", 1)]),
        (1, 4, [("ocr@1 net@1", 1)]),
        (16, 1, [("ocr@1 net@1", 16)]),
        (0, 4, [("ocr@1 net@1", 0)]),
    ],
)
def test_a_network_keeps_its_batch_and_others_are_shared_out(count, workers, expected):
    pieces = divide(batch_of(count), {"ocr@1"}, workers)
    assert [(" ".join(piece.keys), len(piece.images)) for piece, _ in pieces] == expected
    seen = [place for piece, places in pieces if "ocr@1" in piece.keys for place in places]
    assert seen == list(range(count))
    assert all(piece.images == batch_of(count).images[places.start : places.stop] for piece, places in pieces)


def give(piece):
    values = {key: [Score(float(image.getpixel((0, 0))[0])) for image in piece.images] for key in piece.keys}
    piece.future.set_result(Scored(values, dict.fromkeys(piece.keys, float(len(piece.images)))))


def test_scores_come_back_in_their_places_whoever_is_ready_first():
    batch = batch_of(5)
    pieces = divide(batch, {"ocr@1"}, 2)
    joined = join(batch, pieces)
    for piece, _ in reversed(pieces):
        assert not joined.done()
        give(piece)
    scored = joined.result(timeout=5)
    assert {key: [score.value for score in scores] for key, scores in scored.scores.items()} == {
        "ocr@1": [0, 1, 2, 3, 4], "net@1": [0, 1, 2, 3, 4],
    }  # fmt: skip
    assert scored.seconds == {"ocr@1": (2 * 2 + 3 * 3) / 5, "net@1": 5.0}


def test_an_error_of_one_is_the_batchs_own_once_all_have_ended():
    batch = batch_of(4)
    pieces = divide(batch, {"ocr@1"}, 2)
    joined = join(batch, pieces)
    pieces[1][0].future.set_exception(SetupError("no engine"))
    give(pieces[0][0])
    assert not joined.done()
    give(pieces[2][0])
    with pytest.raises(SetupError, match="no engine"):
        joined.result(timeout=5)


def test_what_is_dropped_is_cancelled_for_whoever_waits():
    batch = batch_of(4)
    pieces = divide(batch, {"ocr@1"}, 2)
    joined = join(batch, pieces)
    for piece, _ in pieces:
        piece.future.cancel()
    with pytest.raises(CancelledError):
        joined.result(timeout=5)


@pytest.mark.parametrize(("alone", "processes"), [(True, 2), (False, 1)])
def test_two_workers_take_half_each_or_one_takes_all(tmp_path, alone, processes):
    file = tmp_path / "who.py"
    file.write_text(WHO.replace("ALONE", str(alone)))
    with ScoringPool(parse_rewards([f"{file}:Who"]), workers=2) as pool:
        pool.wait_until_built()
        images = [Image.new("RGB", (2, 2))] * 6
        (scores,) = pool.submit(images, texts(6)).result(timeout=60).scores.values()
    assert len({score.value for score in scores}) == processes
    assert [score.detail for score in scores] == [f"{6 // processes} sign {number}" for number in range(6)]
