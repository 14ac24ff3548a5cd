import re
import subprocess
import sys

import pytest

from rewards.catalogue import BUNDLES, CARDS
from rewards.errors import SetupError, UsageError
from rewards.parse import parse_rewards
from rewards.registry import build, card_of, cards, check_trainable, find_card, load, names


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


def test_descriptive_scores_claim_no_direction_and_others_are_better_when_higher():
    directions = {card.name: card.higher_is_better for card in CARDS}
    assert {name for name, better in directions.items() if better is None} == set(BUNDLES["imagestats"])
    assert {better for name, better in directions.items() if name not in BUNDLES["imagestats"]} == {True}


def test_what_is_trained_on_has_a_direction():
    check_trainable(parse_rewards(["ocr=0.8", "pickscore=0.2"]))
    for texts in (["imagestats.edges"], ["ocr=0.8", "imagestats.edges=0.2"]):
        with pytest.raises(UsageError, match=r"imagestats.edges@1 describes images and does not say which are better"):
            check_trainable(parse_rewards(texts))


def test_find_card():
    assert find_card("ocr").key == "ocr@1"
    with pytest.raises(UsageError, match='Did you mean "ocr-strict"'):
        find_card("ocr-strct")
    with pytest.raises(UsageError, match="no version 2"):
        find_card("ocr", 2)


@pytest.mark.parametrize("name", ["ocr", "ocr-strict", *BUNDLES["imagestats"]])
def test_load_hands_over_spec_and_card(name):
    (spec,) = parse_rewards([name])
    reward = load(spec)
    assert reward.spec == spec
    assert reward.card == find_card(name) == card_of(spec)
    assert set(reward.provenance()) == {"engine", "engine_version", "weights"}


def test_names_are_rewards_and_bundles():
    assert {card.name for card in CARDS} | {"imagestats"} <= names()


def test_build_lists_all_that_is_missing(tmp_path):
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    specs = parse_rewards(["ocr", "ocr-strict", "imagestats"], weights=[f"ocr={absent}", f"ocr-strict={empty}"])
    with pytest.raises(SetupError) as caught:
        build(specs)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == ["reward", "to", "fetch", "what", "is", "missing"]
    assert re.match(rf"ocr@1 +- +{absent}: there is no such folder", lines[2])
    assert re.match(rf"ocr-strict@1 +- +{empty}: expected one det model", lines[3])
    assert lines[4].startswith("To go on without them: --reward 'imagestats.dark@1' --reward 'imagestats.edges@1'")
    build(specs[2:])


def test_what_can_be_fetched_is_one_command(tmp_path, monkeypatch):
    """A folder that was given and lacks files is mended by its owner, not by fetching."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    specs = parse_rewards(["pickscore", "aesthetic", "imagereward"], weights=[f"aesthetic={tmp_path}"])
    with pytest.raises(SetupError) as caught:
        build(specs)
    _, _, pickscore, aesthetic, imagereward, command, offline, without = str(caught.value).splitlines()
    assert re.fullmatch(r"pickscore@1 +3\.9 GB +model\.safetensors, config\.json and 1 more file", pickscore)
    assert re.match(r"aesthetic@1 +- +aesthetic@1 has no sac", aesthetic)
    assert re.fullmatch(r"imagereward@1 +1\.8 GB +ImageReward\.pt, med_config\.json and 1 more file", imagereward)
    assert command == "Get the weights with: dgpo rewards fetch pickscore imagereward"
    assert "--weights pickscore=DIR" in offline
    assert without == (
        "Rewards that need no weights from elsewhere: ocr, ocr-strict, imagestats.dark, imagestats.edges,"
        " imagestats.colours"
    )


def test_the_table_imports_nothing_heavy():
    code = "import sys, rewards.registry, rewards.spec, rewards.reward, rewards.plugins; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {
        "torch",
        "onnxruntime",
        "matplotlib",
        "pandas",
        "cv2",
        "rapidocr",
        "numpy",
        "PIL",
        "transformers",
    } & set(loaded)
