import subprocess
import sys

import pytest

from rewards.cards import BUNDLES
from rewards.errors import SetupError, UsageError
from rewards.registry import cards, check_buildable, find_card, load
from rewards.spec import parse_rewards


def test_table_is_consistent():
    keys = [card.key for card in cards()]
    assert len(keys) == len(set(keys))
    assert {"ocr@1", "ocr-strict@1"} <= set(keys)
    for card in cards():
        low, high = card.bounds
        assert low is None or high is None or low < high
        assert card.unit
        assert card.summary
        assert card.licence
        for option in card.options:
            assert option.choices is None or option.default in option.choices
    assert {name for members in BUNDLES.values() for name in members} <= {card.name for card in cards()}
    assert not set(BUNDLES) & {card.name for card in cards()}


def test_descriptive_scores_claim_no_direction():
    assert {card.name: card.higher_is_better for card in cards()} == {
        "ocr": True,
        "ocr-strict": True,
        "imagestats.dark": None,
        "imagestats.edges": None,
        "imagestats.colours": None,
    }


def test_find_card():
    assert find_card("ocr").key == "ocr@1"
    with pytest.raises(UsageError, match='Did you mean "ocr-strict"'):
        find_card("ocr-strct")
    with pytest.raises(UsageError, match="no version 2"):
        find_card("ocr", 2)


@pytest.mark.parametrize("name", [card.name for card in cards()])
def test_load_hands_over_spec_and_card(name):
    (spec,) = parse_rewards([name])
    reward = load(spec)
    assert reward.spec == spec
    assert reward.card == find_card(name)
    assert set(reward.provenance()) == {"engine", "engine_version", "weights"}


def test_check_buildable_lists_all_that_is_missing(tmp_path):
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    specs = parse_rewards(["ocr", "ocr-strict", "imagestats"], weights=[f"ocr={absent}", f"ocr-strict={empty}"])
    with pytest.raises(SetupError) as caught:
        check_buildable(specs)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert f"ocr@1: {absent}: there is no such folder" in lines[1]
    assert f"ocr-strict@1: {empty}: expected one det model" in lines[2]
    check_buildable(specs[2:])


def test_the_table_imports_nothing_heavy():
    code = "import sys, rewards.registry, rewards.spec, rewards.reward; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnxruntime", "matplotlib", "pandas", "cv2", "rapidocr", "numpy", "PIL"} & set(loaded)
