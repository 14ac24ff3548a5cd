import pytest

from rewards.errors import UsageError
from rewards.serving.limits import Held, Limits, Refusal, change_limits


def test_a_limit_is_changed_by_name():
    assert change_limits(["images=3", "held_bytes=9"]) == Limits(images=3, held_bytes=9)


@pytest.mark.parametrize(
    ("text", "message"),
    [("image=3", 'Did you mean "images"'), ("images", "whole number"), ("images=0", "from 1 up"), ("images=-1", "got")],
)
def test_an_impossible_limit_is_refused_with_a_sentence(text, message):
    with pytest.raises(UsageError, match=message):
        change_limits([text])


def test_what_is_held_is_bounded_and_given_back():
    held = Held(10)
    with held.share() as hold, held.share() as hold_more:
        hold(2)
        hold(4)
        with pytest.raises(Refusal) as busy:
            hold_more(5)
        hold_more(4)
        assert held.bytes == 10
        with pytest.raises(Refusal) as never:
            hold(5)
    assert (busy.value.status, never.value.status, held.bytes) == (429, 413, 0)


def test_what_a_failing_request_held_is_given_back():
    held = Held(10)

    def fail():
        with held.share() as hold:
            hold(6)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert held.bytes == 0
