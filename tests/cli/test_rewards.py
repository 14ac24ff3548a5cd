"""`dgpo rewards` tells what the cards say."""

import json

import pytest
from typer.testing import CliRunner

from cli.commands import app
from rewards.cards import CARDS
from rewards.registry import find_card


def run(*words):
    return CliRunner().invoke(app, ["rewards", *words])


def test_list_has_a_line_for_each_reward_and_names_bundles():
    lines = run("ls").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(CARDS)]] == [card.key for card in CARDS]
    assert "imagestats stands for imagestats.dark, imagestats.edges, imagestats.colours." in lines


def test_list_as_json():
    document = json.loads(run("ls", "--json").stdout)
    assert [entry["key"] for entry in document] == [card.key for card in CARDS]
    assert document[0]["unit"] == CARDS[0].unit


@pytest.mark.parametrize("name", ["ocr", "ocr@1"])
def test_show_tells_options_weights_and_what_to_install(name):
    text = run("show", name).stdout
    card = find_card("ocr")
    assert card.weights in text
    assert "pip install 'dgpo[ocr]'" in text
    for option in card.options:
        assert f"--reward-set ocr.{option.name}=" in text


def test_show_of_a_bundle_shows_its_members():
    document = json.loads(run("show", "imagestats", "--json").stdout)
    assert [entry["name"] for entry in document] == ["imagestats.dark", "imagestats.edges", "imagestats.colours"]


@pytest.mark.parametrize(
    ("name", "hint"), [("imagestat", '"imagestats"'), ("ocr@9", "no version 9"), ("ocr@x", "whole number")]
)
def test_unknown_reward_or_version_ends_with_2(name, hint):
    result = run("show", name)
    assert result.exit_code == 2
    assert hint in result.stderr
