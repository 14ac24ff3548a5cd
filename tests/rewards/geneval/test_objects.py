"""The names are the published ones, in the published order, with the published spelling."""

import hashlib

import pytest

from rewards.geneval.objects import COLOURS, OBJECTS, plural, with_article


def test_the_names_are_the_published_file():
    lines = "".join(f"{name}\n" for name in OBJECTS)
    assert hashlib.sha256(lines.encode()).hexdigest() == (
        "608f6a0e5c8ca1c7a92b818430141fe268c85b7930b50f4160f1d65893b5bacd"
    )
    assert len(OBJECTS) == len(set(OBJECTS)) == 80


def test_ten_colours_in_the_order_of_the_classifier():
    assert " ".join(COLOURS) == "red orange yellow green blue purple pink brown black white"


@pytest.mark.parametrize(
    ("name", "plurals"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("wine glass", "wine glasses"),
        ("scissors", "scissorses"),
        ("skis", "skises"),
        ("bench", "benchs"),
        ("sandwich", "sandwichs"),
        ("toothbrush", "toothbrushs"),
        ("knife", "knifes"),
        ("sheep", "sheeps"),
        ("person", "persons"),
    ],
)
def test_plurals_know_one_letter_only(name, plurals):
    assert plural(name) == plurals


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("apple", "an apple"),
        ("umbrella", "an umbrella"),
        ("orange cat", "an orange cat"),
        ("hair drier", "a hair drier"),
        ("blue apple", "a blue apple"),
    ],
)
def test_articles_follow_the_first_letter(words, named):
    assert with_article(words) == named
