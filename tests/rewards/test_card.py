import pytest

from rewards.card import Card, Option
from rewards.errors import UsageError

CARD = Card(
    name="sample",
    version=3,
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    train_scale=1.0,
    licence="none",
    extra=None,
    summary="",
    options=(Option("size", "small", ("small", "large"), ""), Option("path", "", None, "")),
    weights="",
    entry="",
)


def test_key_names_the_version():
    assert CARD.key == "sample@3"


def test_defaults_are_filled_in_and_free_values_kept():
    assert CARD.settle_options([]) == {"size": "small", "path": ""}
    assert CARD.settle_options([("path", "anything"), ("size", "large")]) == {"size": "large", "path": "anything"}


def test_unknown_option_and_value_come_with_a_suggestion():
    with pytest.raises(UsageError, match=r'sample has no option "sise". Did you mean "size"'):
        CARD.settle_options([("sise", "large")])
    with pytest.raises(UsageError, match=r'size of the reward sample cannot be "huge". Choose from: large, small'):
        CARD.settle_options([("size", "huge")])
