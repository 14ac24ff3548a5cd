"""What is written beside the loop: in order, told when it fails, and bounded."""

import threading
import time

import pytest

from dgpo.writer import Writer


def test_jobs_are_done_in_the_order_in_which_they_were_handed_over():
    writer, done = Writer(), []
    for number in range(20):
        writer.hand(lambda number=number: done.append(number))
    writer.wait()
    assert done == list(range(20))


def test_whoever_hands_over_does_not_wait():
    writer, may_go_on = Writer(), threading.Event()
    writer.hand(may_go_on.wait)
    writer.hand(lambda: None)
    may_go_on.set()
    writer.wait()


def test_of_large_ones_no_two_are_in_memory():
    writer, active, most = Writer(), [], []

    def save(number):
        time.sleep(0.02)
        active.remove(number)

    for number in range(4):
        active.append(number)
        most.append(len(active))
        writer.hand(lambda number=number: save(number), large=True)
    writer.wait()
    assert max(most) == 2  # one that is written, and the next, which waits to be handed over


def test_what_goes_wrong_is_raised_once_and_what_followed_is_not_done():
    writer, done = Writer(), []

    def fail():
        raise OSError(28, "No space left on device")

    writer.hand(fail)
    writer.hand(lambda: done.append("after it"))
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    assert done == []
    writer.check()
    writer.hand(lambda: done.append("a new one"))
    writer.wait()
    assert done == ["a new one"]


def test_the_next_job_is_not_begun_after_a_failure():
    writer = Writer()
    writer.hand(lambda: 1 / 0)
    writer._last.wait()
    with pytest.raises(ZeroDivisionError):
        writer.hand(lambda: None)
    writer.hand(lambda: 1 / 0)
    writer.wait_quietly()
    writer.wait()
