"""Fetching from a hub on this machine: found afterwards, resumed, verified, and every failure a sentence."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.card import WeightFile
from rewards.errors import SetupError
from rewards.registry import find_card
from rewards.weights.download import NotPublished, download, look_up
from rewards.weights.fetch import carry_out, check_room, plan, write_folder
from rewards.weights.folder import cache_place, locate
from tests.rewards.hub import Hub

COMMIT = "c0ffee" + "0" * 34
CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()
CONFIG = b'{"width": 8}'
HEAD = b"linear" * 50
CHUNK = 1000


def place_of(file) -> Path:
    place = cache_place(file)
    assert place is not None
    return place


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that this process takes for the real one, with an empty cache."""
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)  # between its own tries
    yield hub
    hub.close()


@pytest.fixture
def card(hub):
    """A reward of a large file, a small one, an optional one that its repository lacks, and one from elsewhere."""
    hub.add("team/net", COMMIT, "model.bin", CONTENT)
    hub.add_small("team/net", COMMIT, "config.json", CONFIG)
    hub.files["/assets/head.pth"] = hub.add("unused", COMMIT, "head", HEAD)
    files = (
        WeightFile("net/model.bin", "team/net", COMMIT, "model.bin", size=len(CONTENT), sha256=SHA),
        WeightFile("net/config.json", "team/net", COMMIT, "config.json"),
        WeightFile("net/vocab.json", "team/net", COMMIT, "vocab.json", required=False),
        WeightFile("head.pth", url=f"{hub.url}/assets/head.pth", sha256=hashlib.sha256(HEAD).hexdigest()),
    )
    return replace(find_card("imagestats.dark"), name="toy", files=files)


@contextmanager
def watch(remote):
    yield lambda done: None


def fetch(card):
    wanted = plan([card])
    carry_out(wanted, watch)
    return wanted


def state(wanted):
    return {item.file.path: item.words for item in wanted.items}


def read(files):
    return {name: path.read_bytes() for name, path in files.items()}


WHOLE = {"net/model.bin": CONTENT, "net/config.json": CONFIG, "head.pth": HEAD}


def test_what_was_fetched_is_found(hub, card):
    wanted = fetch(card)
    assert state(wanted)["net/vocab.json"] == "its repository has none; not needed"
    assert read(locate(card, None)) == WHOLE


def test_the_cache_is_the_hubs_own(hub, card):
    from huggingface_hub import hf_hub_download

    fetch(card)
    hub.down = 500
    path = hf_hub_download("team/net", "model.bin", revision=COMMIT, cache_dir=hub_cache())
    assert Path(path) == cache_place(card.files[0])
    assert os.readlink(path) == f"../../blobs/{SHA}"


def hub_cache():
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def test_the_plan_tells_sizes_before_anything_is_downloaded(hub, card):
    wanted = plan([card])
    assert {item.file.path: item.size for item in wanted.items} == {
        "net/model.bin": len(CONTENT),
        "net/config.json": len(CONFIG),
        "net/vocab.json": None,
        "head.pth": len(HEAD),
    }
    assert wanted.bytes_to_get == len(CONTENT) + len(CONFIG) + len(HEAD)
    assert hub.gets() == []


def test_again_verifies_and_asks_for_no_content(hub, card):
    fetch(card)
    hub.asked.clear()
    wanted = fetch(card)
    assert hub.gets() == []
    assert state(wanted)["net/model.bin"] == "here, as published"
    assert state(wanted)["net/config.json"] == "here, as published"  # by git's hash in its link


def test_a_file_that_two_rewards_share_is_got_once(hub, card):
    other = replace(card, name="other", files=card.files[:1])
    wanted = plan([card, other])
    assert len(wanted.items) == 5
    carry_out(wanted, watch)
    assert sum(one.path.endswith("model.bin") for one in hub.gets()) == 1


def test_a_cut_within_one_command_goes_on_by_range(hub, card):
    hub.files[f"/team/net/resolve/{COMMIT}/model.bin"].cut_after = [4500]
    fetch(card)
    starts = [one.start for one in hub.gets() if one.path.endswith("model.bin")]
    assert starts == [None, 4000]  # whole chunks are kept
    assert read(locate(card, None)) == WHOLE


@pytest.mark.parametrize("path", ["/team/net/resolve/{}/model.bin", "/assets/head.pth"])
def test_the_same_command_goes_on_where_the_last_one_stopped(hub, card, path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    served = hub.files[path.format(COMMIT)]
    served.cut_after, served.down_after_cut = [250], 503
    with pytest.raises(SetupError, match=r"503.*The same command goes on"):
        fetch(card)
    hub.down = None
    hub.asked.clear()
    wanted = plan([card])
    name = Path(path).name
    assert [item.words for item in wanted.items if item.file.path.endswith(name)] == ["begun, 200 B are here"]
    carry_out(wanted, watch)
    assert [one.start for one in hub.gets() if one.path.endswith(name)] == [200]
    assert read(locate(card, None)) == WHOLE


def test_a_connection_that_is_lost_for_good_says_how_far_it_came(hub, card):
    hub.files[f"/team/net/resolve/{COMMIT}/model.bin"].cut_after = [4500, *[0] * 9]
    with pytest.raises(SetupError, match=f"broke off after 4000 of {len(CONTENT)} bytes .*goes on from there"):
        fetch(card)


def test_a_server_without_ranges_starts_over(hub, card):
    served = hub.files[f"/team/net/resolve/{COMMIT}/model.bin"]
    served.cut_after, served.ranges = [4500], False
    fetch(card)
    assert read(locate(card, None)) == WHOLE


def test_progress_counts_bytes_from_where_it_goes_on(hub, card):
    remote = look_up(card.files[0])
    remote.partial.parent.mkdir(parents=True)
    remote.partial.write_bytes(CONTENT[:3000])
    seen = []
    download(remote, seen.append)
    assert seen[0] == 4000
    assert seen[-1] == len(CONTENT)
    assert seen == sorted(seen)


def test_a_rest_that_is_too_long_is_not_gone_on_with(hub, card):
    remote = look_up(card.files[0])
    remote.partial.parent.mkdir(parents=True)
    remote.partial.write_bytes(CONTENT + b"x")
    fetch(card)
    assert read(locate(card, None)) == WHOLE


def test_a_wrong_content_is_deleted_and_nothing_else(hub, card):
    served = hub.files[f"/team/net/resolve/{COMMIT}/config.json"]
    served.content = CONFIG[:-1] + b"]"
    with pytest.raises(SetupError) as error:
        fetch(card)
    got = hashlib.sha1(b"blob 12\0" + served.content).hexdigest()
    assert f"net/config.json from {hub.url}/team/net/resolve/{COMMIT}/config.json" in str(error.value)
    assert f"sha1 {got} instead of {served.etag}" in str(error.value)
    assert error.value.exit_code == 3
    assert place_of(card.files[0]).read_bytes() == CONTENT
    assert not os.path.lexists(place_of(card.files[1]))
    names = {path.name for path in Path(hub_cache()).rglob("*")}
    assert served.etag not in names
    assert not any(name.endswith(".incomplete") for name in names)
    served.content = CONFIG
    hub.asked.clear()
    fetch(card)
    assert not any(one.path.endswith("model.bin") for one in hub.gets())


def test_a_wrong_hash_of_a_large_file_and_of_one_from_elsewhere(hub, card):
    for path, name in ((f"/team/net/resolve/{COMMIT}/model.bin", "net/model.bin"), ("/assets/head.pth", "head.pth")):
        served = hub.files[path]
        right, served.content = served.content, served.content[::-1]
        with pytest.raises(SetupError, match=f"{name} from .* is not the published file: sha256 .* instead of"):
            fetch(card)
        served.content = right
    fetch(card)
    assert read(locate(card, None)) == WHOLE


@pytest.mark.parametrize(("facts", "words"), [({"size": 7}, "7 bytes instead of"), ({"etag": "0" * 64}, "sha256 000")])
def test_another_file_is_refused_before_it_is_moved(hub, card, facts, words):
    hub.add("team/net", COMMIT, "model.bin", CONTENT, **facts)
    with pytest.raises(SetupError, match=f"offers another file than the published one: {words}"):
        plan([card])
    assert hub.gets() == []


def test_a_spoilt_file_is_fetched_again(hub, card):
    fetch(card)
    place = place_of(card.files[0])
    place.resolve().write_bytes(CONTENT[::-1])
    wanted = plan([card])
    assert "here, but not as published" in state(wanted)["net/model.bin"]
    carry_out(wanted, watch)
    assert place.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "EntryNotFound", "is not there"),
        (404, "RevisionNotFound", "is not there"),
        (401, "", "private, gated or gone"),
        (401, "RepoNotFound", "private, gated or gone"),
        (403, "GatedRepo", "terms to be accepted"),
        (500, "", "answers 500"),
    ],
)
def test_a_refusal_is_a_sentence_with_the_address(hub, card, status, code, words):
    path = f"/team/net/resolve/{COMMIT}/model.bin"
    hub.files[path].status, hub.files[path].error_code = status, code
    with pytest.raises(SetupError, match=words) as error:
        plan([card])
    assert hub.url + path in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, NotPublished) == (status == 404)


def test_no_server_is_a_sentence_that_says_how_to_do_without(hub, card):
    hub.close()
    with pytest.raises(SetupError, match="cannot be reached") as error:
        plan([card])
    assert f"{hub.url}/team/net" in str(error.value)
    assert "--output DIR" in str(error.value)


def test_a_web_server_that_is_no_hub(hub, card):
    hub.files[f"/team/net/resolve/{COMMIT}/model.bin"].etag = ""
    with pytest.raises(SetupError, match="does not answer as a model hub does"):
        plan([card])


def test_offline_asks_nobody_and_verifies_what_is_here(hub, card, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="HF_HUB_OFFLINE is set") as error:
        plan([card])
    assert str(cache_place(card.files[0])) in str(error.value)
    assert hub.asked == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    fetch(card)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert plan([card]).remotes == []


def test_a_full_disk_is_told_before(hub, card):
    hub.add("team/net", COMMIT, "model.bin", CONTENT, size=10**18)
    wanted = plan([replace(card, files=(replace(card.files[0], size=None),))])
    with pytest.raises(SetupError, match=r"1000000000\.0 GB are to be fetched, and .* free\. Make room"):
        check_room(wanted)


def test_only_the_hub_sees_the_token(hub, card, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(card)
    seen = {one.path: one.headers.get("authorization") for one in hub.asked}
    assert seen[f"/team/net/resolve/{COMMIT}/model.bin"] == "Bearer hf_secret"
    assert seen["/assets/head.pth"] is None


def test_a_file_that_lies_on_another_server_is_resumed_there_and_gets_no_token(hub, card, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store = Hub()
    store.files["/signed"] = replace(hub.files[f"/team/net/resolve/{COMMIT}/model.bin"], cut_after=[2500])
    hub.files[f"/team/net/resolve/{COMMIT}/model.bin"].moved_to = f"{store.url}/signed"
    fetch(card)
    store.close()
    assert [(one.start, one.headers.get("authorization")) for one in store.asked] == [(None, None), (2000, None)]
    assert read(locate(card, None)) == WHOLE


def test_two_at_once_get_a_file_once(hub, card):
    with ThreadPoolExecutor(2) as threads:
        remotes = [look_up(card.files[0]), look_up(card.files[0])]
        list(threads.map(lambda remote: download(remote, lambda done: None), remotes))
    assert sum(one.path.endswith("model.bin") for one in hub.gets()) == 1


def test_a_cache_that_cannot_be_written_is_a_sentence(hub, card, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(SetupError, match=r"cannot be made .*export HF_HUB_CACHE=DIR"):
        fetch(card)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    fetch(card)
    with pytest.raises(SetupError, match=r"cannot be written .*choose another --output DIR"):
        write_folder(card, tmp_path / "file")


def test_the_folder_for_another_machine_is_a_weights_folder(hub, card, tmp_path):
    fetch(card)
    folder = write_folder(card, tmp_path / "usb")
    assert folder == tmp_path / "usb" / "toy"
    assert read(locate(card, str(folder))) == WHOLE
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    (folder / "head.pth").unlink()
    (folder / "head.pth").write_bytes(b"old")
    assert read(locate(card, str(write_folder(card, tmp_path / "usb")))) == WHOLE
