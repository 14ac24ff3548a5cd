"""Time left is judged by this process's own pace; a line comes every ten seconds at most."""

import io

import pytest

from cli.progress import Progress, format_seconds


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def test_time_left_after_a_resume_counts_only_what_was_done_here(clock):
    with Progress("train", 100, unit="iterations", start=60, stream=io.StringIO(), clock=clock) as progress:
        clock.now += 30
        # 10 iterations in 30 s, 30 to go: 90 s
        assert progress.describe(70) == "70/100 iterations, 1 min 30 s left"
        assert progress.describe(60) == "60/100 iterations"
        assert progress.describe(100, "reward 0.5") == "100/100 iterations, in 30 s, reward 0.5"


def test_a_line_at_most_every_ten_seconds_and_one_at_the_end(clock):
    stream = io.StringIO()
    with Progress("eval", 8, stream=stream, clock=clock) as progress:
        for done in range(1, 9):
            clock.now += 4
            progress.update(done)
    # lines at 12 s (3 done), 24 s (6 done) and at the end
    assert stream.getvalue() == ("eval 3/8 images, 20 s left\neval 6/8 images, 8 s left\neval 8/8 images, in 32 s\n")


def test_the_end_is_told_once(clock):
    stream = io.StringIO()
    with Progress("eval", 2, stream=stream, clock=clock) as progress:
        progress.update(2)
        clock.now += 60
        progress.update(2)
    assert stream.getvalue() == "eval 2/2 images, in 0 s\n"


def test_sentences_come_at_once(clock):
    stream = io.StringIO()
    with Progress("eval", 8, stream=stream, clock=clock) as progress:
        progress.say("[1] image was damaged")
    assert stream.getvalue() == "dgpo: [1] image was damaged\n"


def test_a_terminal_gets_a_bar_with_the_same_words(clock):
    stream = Terminal()
    with Progress("eval", 4, stream=stream, clock=clock) as progress:
        clock.now += 2
        progress.update(2, "[bold] reward 0.5")
        progress.say("a [note]")
    text = stream.getvalue()
    assert "2/4 images, 2 s left, [bold] reward 0.5" in text
    assert "dgpo: a [note]" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_seconds_in_words(seconds, words):
    assert format_seconds(seconds) == words
