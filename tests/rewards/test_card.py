from dataclasses import replace

import pytest

from rewards.card import OTHER, Card, Change, Option, WeightFile
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


def test_an_option_changes_what_it_says_of_the_card_and_nothing_by_default():
    size = Option(
        "size", "small", ("small", "large"), "", changes=(("large", Change(unit="points", bounds=(0.0, 9.0))),)
    )
    server = Option("server", "none", None, "", changes=((OTHER, Change(files=())),))
    card = replace(CARD, options=(size, server), files=(WeightFile("a.bin"),))
    assert card.settled([]) == card.settled([("size", "small"), ("server", "none")]) == card
    assert card.settled([("size", "large")]) == replace(card, unit="points", bounds=(0.0, 9.0))
    assert card.settled([("server", "http://x"), ("size", "large")]) == replace(
        card, unit="points", bounds=(0.0, 9.0), files=()
    )
    with pytest.raises(UsageError, match="cannot be"):
        card.settled([("size", "huge")])
