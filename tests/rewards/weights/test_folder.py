"""Where weights are looked for, what is said when they are not there, and how they are held against the published."""

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.card import WeightFile
from rewards.errors import SetupError, WeightsMissing
from rewards.registry import find_card
from rewards.weights.folder import (
    cache_place,
    checksums,
    compare,
    digest,
    format_size,
    is_hash,
    locate,
    tell_stand,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
NETWORK = WeightFile(
    "a/network.bin", "team/net", "0" * 40, "network.bin", size=5, sha256=hashlib.sha256(b"12345").hexdigest()
)
LOOSE = WeightFile("head.pth", url="https://example.org/x%2By/head.pth", aliases=("old/head.pth",))
EXTRA = WeightFile("b/extra.json", "team/net", "0" * 40, "extra.json", required=False)
BY_HAND = WeightFile("config.json", required=False)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def card():
    return replace(
        find_card("imagestats.dark"), name="toy", files=(NETWORK, LOOSE, EXTRA, BY_HAND), weights="toy files"
    )


def put(path, content=b"12345"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_hubs_own_layout_at_the_cards_commit(cache, card):
    network = put(cache / "models--team--net" / "snapshots" / ("0" * 40) / "network.bin")
    address = hashlib.sha256(LOOSE.url.encode()).hexdigest()[:16]
    head = put(cache / "dgpo" / address / "head.pth")
    assert locate(card, None) == {"a/network.bin": network, "head.pth": head}
    extra = put(network.with_name("extra.json"))
    assert locate(card, None)["b/extra.json"] == extra


def test_another_commit_is_not_taken(cache, card):
    put(cache / "models--team--net" / "snapshots" / ("1" * 40) / "network.bin")
    with pytest.raises(SetupError, match=r"no a/network\.bin"):
        locate(card, None)


def test_missing_names_file_size_place_and_command(cache, card):
    put(cache_place(LOOSE))
    with pytest.raises(SetupError) as error:
        locate(card, None)
    place = cache / "models--team--net" / "snapshots" / ("0" * 40) / "network.bin"
    assert f"a/network.bin (5 B; looked for {place})" in str(error.value)
    assert "dgpo rewards fetch toy" in str(error.value)
    assert "head.pth" not in str(error.value)
    assert "extra" not in str(error.value)


def test_a_folder_is_looked_at_under_all_names_and_no_cache(cache, card, tmp_path):
    put(cache_place(NETWORK))
    folder = tmp_path / "folder"
    old = put(folder / "old" / "head.pth")
    with pytest.raises(SetupError) as error:
        locate(card, str(folder))
    assert str(folder / "a" / "network.bin") in str(error.value)
    assert "dgpo rewards show toy" in str(error.value)
    network = put(folder / "a" / "network.bin")
    assert locate(card, str(folder)) == {"a/network.bin": network, "head.pth": old}


def test_a_folder_that_is_not_there_is_said_so(card, tmp_path):
    with pytest.raises(SetupError, match=r"There is no folder .*nowhere, which --weights gives for toy"):
        locate(card, str(tmp_path / "nowhere"))


@pytest.mark.parametrize("variables", [{"HF_HOME": "home"}, {"HF_HOME": "elsewhere", "HF_HUB_CACHE": "home/hub"}])
def test_the_hubs_variables_say_where_the_cache_is(variables, tmp_path):
    code = (
        "from rewards.registry import find_card; from rewards.weights.folder import cache_place;"
        "print([cache_place(file) for file in find_card('aesthetic').files][0])"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("HF_HOME", "HF_HUB_CACHE")}
    words = {name: str(tmp_path / value) for name, value in variables.items()}
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **words},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert printed.stdout.startswith(str(tmp_path / "home" / "hub" / "dgpo")), printed.stderr


def test_stand_is_told_by_names_alone(cache, card):
    assert tell_stand(card) == "fetch 5 B"
    put(cache_place(NETWORK))
    assert tell_stand(card) == "fetch"  # nobody says how large the head is
    put(cache_place(LOOSE))
    assert tell_stand(card) == "here"
    assert tell_stand(find_card("ocr")) == "in the wheel"
    assert tell_stand(find_card("imagestats.dark")) == "none needed"


@pytest.mark.parametrize(
    ("content", "same", "words"),
    [
        (b"12345", True, "sha256 5994471a"),
        (b"12346", False, "instead of 5994471a"),
        (b"123", False, "3 bytes instead of 5"),
    ],
)
def test_compare_by_size_and_hash(tmp_path, content, same, words):
    comparison = compare(put(tmp_path / "x", content), NETWORK)
    assert comparison.same is same
    assert words in comparison.words


def test_compare_says_when_nobody_published_a_hash(tmp_path):
    comparison = compare(put(tmp_path / "x"), LOOSE)
    assert comparison.same is None
    assert f"nobody has published a hash; sha256 {NETWORK.sha256}" == comparison.words


def test_a_file_in_the_hubs_cache_is_held_against_the_hash_in_its_name(tmp_path):
    blob = put(tmp_path / "blobs" / digest(put(tmp_path / "x"), "git"))
    link = tmp_path / "extra.json"
    link.symlink_to(Path("blobs") / blob.name)
    assert compare(link, EXTRA).same is True
    blob.write_bytes(b"12346")
    assert compare(link, EXTRA).same is False


def test_git_names_a_content_by_this_hash(tmp_path):
    # printf hello | git hash-object --stdin
    assert digest(put(tmp_path / "x", b"hello"), "git") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"


def test_the_beginning_of_a_hash_will_do(tmp_path):
    path = put(tmp_path / "x")
    right = compare(path, replace(LOOSE, sha256="5994471abb01112a"))
    assert (right.same, right.words) == (True, "sha256 5994471abb01112a...")
    assert compare(path, replace(LOOSE, sha256="5994471abb01112b")).same is False


def test_a_name_with_a_star_stands_for_the_only_file_of_its_kind(card, tmp_path):
    card = replace(card, files=(replace(LOOSE, aliases=("*.pth",)),))
    with pytest.raises(SetupError, match=r"has no head\.pth \(looked for .*/\*\.pth"):
        locate(card, str(tmp_path))
    mine = put(tmp_path / "mine.pth")
    put(tmp_path / "deeper" / "other.pth")
    assert locate(card, str(tmp_path)) == {"head.pth": mine}
    put(tmp_path / "head.pth")
    with pytest.raises(SetupError, match=r"holds head\.pth, mine\.pth, and toy needs a single \*\.pth there"):
        locate(card, str(tmp_path))


def test_checksums_are_for_the_record():
    files = locate(find_card("imagereward"), str(GOLDEN / "imagereward"))
    sha = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
    assert f"vocab.txt sha256:{sha}" in checksums(files)


def test_what_can_be_a_hash():
    assert is_hash("a" * 40)
    assert is_hash("0" * 64)
    assert not is_hash("a" * 39)
    assert not is_hash("x" * 40)


def test_sizes_are_decimal():
    assert [format_size(size) for size in (0, 999, 999960, 10**9)] == ["0 B", "999 B", "1.0 MB", "1.0 GB"]


def test_missing_weights_travel_between_processes_whole():
    error = pickle.loads(pickle.dumps(WeightsMissing("no such files", ["a.pt", "b.json"], "3.9 GB")))
    assert (str(error), error.files, error.size, error.exit_code) == ("no such files", ("a.pt", "b.json"), "3.9 GB", 3)
