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
    with held.hold(6):
        with pytest.raises(Refusal) as busy, held.hold(5):
            pass
        with held.hold(4):
            assert held.bytes == 10
    assert (busy.value.status, held.bytes) == (429, 0)
    with pytest.raises(Refusal) as never, held.hold(11):
        pass
    assert never.value.status == 413


def test_what_a_failing_request_held_is_given_back():
    held = Held(10)
    with pytest.raises(KeyError), held.hold(6):
        raise KeyError
    assert held.bytes == 0
