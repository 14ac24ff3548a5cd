"""`dgpo rewards` tells what the cards say, gets weights and checks them; the latter in processes of their own."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.commands import app
from rewards.catalogue import CARDS
from rewards.registry import find_card
from tests.rewards.hub import Hub

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "clip_family"
COMMIT = "c0ffee" + "0" * 34
CONTENT = bytes(range(256)) * 100_000  # of more than two of the hub library's pieces of 10 MiB
CONFIG = b'{"width": 8}'
PIECE = 10 * 2**20
# A reward whose weights are small, registered in the process before the program starts.
TOY = """
from dataclasses import replace
import rewards.catalogue
from rewards.card import WeightFile
dark = next(card for card in rewards.catalogue.CARDS if card.name == "imagestats.dark")
files = (
    WeightFile("net/model.bin", "team/net", {commit!r}, "model.bin", size={size}, sha256={sha!r}),
    WeightFile("net/config.json", "team/net", {commit!r}, "config.json"),
)
toy = replace(dark, name="toy", licence="CC-BY-4.0", weights="two files", files=files, unpublished="none is")
rewards.catalogue.CARDS += (toy,)
"""
REGISTER = TOY.format(commit=COMMIT, size=len(CONTENT), sha=hashlib.sha256(CONTENT).hexdigest())


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


def test_show_tells_the_files_and_where_they_come_from():
    network = find_card("pickscore").files[0]
    line = next(line for line in run("show", "pickscore").stdout.splitlines() if line.startswith("  model.safetensors"))
    assert line.split()[:2] == ["model.safetensors", "or"]
    assert line.split()[-4:] == ["3.9", "GB", network.sha256, "yuvalkirstain/PickScore_v1@a4e4367c"]


def test_list_tells_where_weights_stand_and_loads_no_library(program, tmp_path):
    code = "import atexit, sys; atexit.register(lambda: print({'torch', 'numpy', 'PIL', 'httpx2'} & set(sys.modules)))"
    done = program("rewards", "ls", before=code, HF_HUB_CACHE=str(tmp_path))
    lines = done.stdout.splitlines()
    stands = {name: next(line for line in lines if line.startswith(f"{name}@1")) for name in ("ocr", "pickscore")}
    assert " in the wheel " in stands["ocr"]
    assert " fetch 3.9 GB " in stands["pickscore"]
    assert lines[-1] == "set()"


@pytest.fixture
def hub():
    hub = Hub()
    hub.add("team/net", COMMIT, "model.bin", CONTENT)
    hub.add_small("team/net", COMMIT, "config.json", CONFIG)
    yield hub
    hub.close()


@pytest.fixture
def dgpo(program, hub, tmp_path):
    """The program, with the toy reward, a hub on this machine and an empty cache."""

    def run(*words, **environment):
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        return program("rewards", *words, before=REGISTER, **{**places, **environment})

    return run


def test_fetch_says_first_then_gets_and_check_finds(dgpo, hub, tmp_path):
    done = dgpo("fetch", "toy", "ocr", "--output", "usb")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "--weights toy=usb/toy\n"
    said = [line.strip() for line in done.stderr.splitlines()]
    order = ["toy@1, licence: CC-BY-4.0", "net/model.bin", "MB, into", f"fetching {hub.url}", "25/25 MB"]
    places = [next(place for place, line in enumerate(said) if words in line) for words in order]
    assert places == sorted(places)
    assert any("ocr@1 has nothing to fetch" in line and "in the wheel of rapidocr" in line for line in said)
    assert "25.6 MB" in next(line for line in said if "net/model.bin" in line)
    assert (tmp_path / "usb" / "toy" / "net" / "model.bin").read_bytes() == CONTENT
    checked = dgpo("check", "toy", HF_HUB_OFFLINE="1")
    assert checked.returncode == 0, checked.stderr
    assert "net/model.bin" in checked.stdout
    assert "as published: sha256" in checked.stdout
    assert "could not be checked in full, for the reasons above: toy@1" in checked.stderr
    assert "here" in next(line for line in dgpo("ls").stdout.splitlines() if line.startswith("toy@1"))


def test_a_killed_fetch_is_gone_on_with_by_the_same_command(dgpo, hub, tmp_path):
    served = hub.files[f"/team/net/resolve/{COMMIT}/model.bin"]
    served.stall_after = PIECE + 1000
    places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{REGISTER}\nfrom cli.main import main; main()"
    words = [sys.executable, "-P", "-c", code, "rewards", "fetch", "toy"]
    with subprocess.Popen(words, env={**os.environ, **places}, stderr=subprocess.DEVNULL) as first:
        assert hub.stalled.wait(60)
        partial = tmp_path / "home" / "hub" / "models--team--net" / "blobs" / f"{served.etag}.incomplete"
        while not partial.is_file() or partial.stat().st_size < PIECE:
            assert first.poll() is None
        first.kill()
    hub.go_on.set()
    hub.asked.clear()
    done = dgpo("fetch", "toy")
    assert done.returncode == 0, done.stderr
    assert "begun, 10.5 MB are here" in done.stderr
    assert [one.start for one in hub.gets() if one.path.endswith("model.bin")] == [PIECE]
    assert done.stdout == "toy@1 is here and verified; nothing more is to be given for it\n"


def test_a_wrong_hash_ends_with_3(dgpo, hub):
    hub.files[f"/team/net/resolve/{COMMIT}/model.bin"].content = CONTENT[::-1]
    done = dgpo("fetch", "toy")
    assert done.returncode == 3
    got = hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert f"sha256 {got} instead of {hashlib.sha256(CONTENT).hexdigest()}" in done.stderr
    assert "Traceback" not in done.stderr


def test_fetch_of_a_real_card_refuses_other_files_before_moving_them(dgpo, hub):
    for file in find_card("imagereward").files:
        add = hub.add if file.path == "ImageReward.pt" else hub.add_small
        add(file.repo, file.revision, file.source, (GOLDEN / "imagereward" / file.path).read_bytes())
    done = dgpo("fetch", "imagereward")
    assert done.returncode == 3
    assert "4436483 bytes instead of 1786880927" in done.stderr
    assert hub.gets() == []


def test_fetch_without_network_ends_with_3_and_says_what_to_do(dgpo, hub):
    offline = dgpo("fetch", "toy", HF_HUB_OFFLINE="1")
    assert offline.returncode == 3
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    assert hub.asked == []
    nobody = dgpo("fetch", "toy", HF_ENDPOINT="http://127.0.0.1:9")
    assert nobody.returncode == 3
    assert "http://127.0.0.1:9/team/net" in nobody.stderr
    assert "Traceback" not in nobody.stderr


def test_fetch_of_an_unknown_reward_ends_with_2(dgpo):
    done = dgpo("fetch", "pickscor")
    assert (done.returncode, 'Did you mean "pickscore"?' in done.stderr) == (2, True)


def test_check_ends_with_0_3_or_4(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert run("check", "imagestats").exit_code == 0
    lacking = run("check", "imagestats.dark", "imagereward")
    assert lacking.exit_code == 3
    assert "dgpo rewards fetch imagereward" in lacking.stdout
    monkeypatch.setattr("rewards.imagestats.reward.DarkShare.of_halves", 0.4)
    off = run("check", "imagestats.dark", "imagereward")
    assert off.exit_code == 4
    assert "0.5 for a picture half black and half white; by hand 0.4" in off.stdout


def test_check_of_a_folder_as_json_tells_that_it_differs():
    done = run("check", "imagereward", "--weights", f"imagereward={GOLDEN / 'imagereward'}", "--json")
    assert done.exit_code == 0
    found = {entry["what"]: entry["result"] for entry in json.loads(done.stdout)}
    assert (found["ImageReward.pt"], found["vocab.txt"]) == ("differs", "ok")
    assert found["published scores"] == "not checked"
