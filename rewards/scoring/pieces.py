"""A batch in pieces that several workers score, and their scores put together again."""

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError, Future
from itertools import pairwise

from rewards.scoring.batch import Scored
from rewards.scoring.lane import Batch

Piece = tuple[Batch, range]
"""Images of a batch, for some of its rewards, and their places in it."""


def divide(batch: Batch, alone: Collection[str], workers: int) -> list[Piece]:
    """The whole batch for rewards whose scores depend on it, even shares of it for those that judge images `alone`."""
    count = len(batch.images)
    shared = tuple(key for key in batch.keys if key in alone)
    if workers < 2 or count < 2 or not shared:
        return [(batch, range(count))]
    whole = tuple(key for key in batch.keys if key not in alone)
    shares = min(workers, count)
    bounds = [count * share // shares for share in range(shares + 1)]
    places = [range(start, end) for start, end in pairwise(bounds)]
    pieces = [(whole, range(count))] if whole else []
    pieces += [(shared, some) for some in places]
    return [(_piece(batch, keys, some), some) for keys, some in pieces]


def _piece(batch: Batch, keys: tuple[str, ...], places: range) -> Batch:
    return Batch(batch.images[places.start : places.stop], batch.prompts[places.start : places.stop], keys)


def join(batch: Batch, pieces: Sequence[Piece]) -> "Future[Scored]":
    """What `batch` comes to once all its pieces are scored; the first error in their order, if there is one."""
    if len(pieces) == 1:
        return pieces[0][0].future
    left, lock = len(pieces), threading.Lock()

    def ended(_: "Future[Scored]") -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last and batch.future.set_running_or_notify_cancel():
            try:
                batch.future.set_result(_together(batch, pieces))
            except (Exception, CancelledError) as error:  # whoever waits for the future gets it
                batch.future.set_exception(error)

    for piece, _ in pieces:
        piece.future.add_done_callback(ended)
    return batch.future


def _together(batch: Batch, pieces: Sequence[Piece]) -> Scored:
    scored = [(piece.keys, places, piece.future.result()) for piece, places in pieces]
    scores, seconds = {}, {}
    for key in batch.keys:
        parts = [(places, one) for keys, places, one in scored if key in keys]
        scores[key] = [score for _, one in parts for score in one.scores[key]]
        seconds[key] = sum(one.seconds[key] * len(places) for places, one in parts) / len(batch.images)
    return Scored(scores, seconds)
