"""Published prompt files: found, fetched from a server on this machine, verified, and every failure a sentence."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from benchmarks import prompt_files
from benchmarks.prompt_files import PromptFile, find_file, get_file
from benchmarks.suites import load_suite
from rewards.errors import SetupError, UsageError
from tests.rewards.hub import Hub, Served

CONTENT = b"".join(b"prompt %d\n" % number for number in range(2000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KNOWN = PromptFile("words_test.txt", "dataset/words/test.txt", SHA256, len(CONTENT))
UNKNOWN = replace(KNOWN, name="words_train.txt", path="dataset/words/train.txt", sha256=None, size=None)
HOST = "https://raw.githubusercontent.com"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A mirror of the host of prompt files, with both files and an empty cache."""
    hub = Hub()
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)
    monkeypatch.setenv("DGPO_PROMPTS_URL", f"{hub.url}/")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    for file in (KNOWN, UNKNOWN):
        serve(hub, file, CONTENT)
    yield hub
    hub.close()


def serve(hub, file, content, **facts):
    hub.files[file.url.removeprefix(HOST)] = Served(content, "as it is", **facts)


@pytest.fixture
def heard():
    return []


@pytest.mark.parametrize("name", ["drawbench", "ocr", "pickscore"])
def test_a_suite_is_fetched_once_and_announced(hub, heard, data_dir, name):
    file = getattr(prompt_files, name.upper())
    serve(hub, file, (data_dir / file.name).read_bytes())
    suite = load_suite(name, announce=heard.append)
    hub.down = 500
    assert load_suite(name, announce=heard.append).sha256 == suite.sha256
    assert len(hub.gets()) == 1
    assert heard == [f"fetching {hub.url}{file.url.removeprefix(HOST)} into {file.place.parent}, once"]


def test_without_a_listener_it_is_said_on_stderr(hub, data_dir, capsys):
    file = prompt_files.DRAWBENCH
    serve(hub, file, (data_dir / file.name).read_bytes())
    load_suite("drawbench")
    assert "fetching http" in capsys.readouterr().err


def test_the_cache_is_where_weights_lie_whatever_the_mirror(hub, heard, tmp_path, monkeypatch):
    path = get_file(KNOWN, None, heard.append)
    assert path == KNOWN.place
    assert path.is_relative_to(tmp_path / "hub" / "dgpo")
    monkeypatch.delenv("DGPO_PROMPTS_URL")
    assert find_file(KNOWN, None) == path
    assert path.read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_stopped(hub, heard):
    serve(hub, KNOWN, CONTENT, cut_after=[5000], down_after_cut=503)
    with pytest.raises(SetupError, match="the server answers 503"):
        get_file(KNOWN, None, heard.append)
    hub.down = None
    assert get_file(KNOWN, None, heard.append).read_bytes() == CONTENT
    assert hub.gets()[-1].start == 5000


def test_another_content_is_refused_and_not_kept(hub, heard):
    serve(hub, KNOWN, CONTENT[:-1] + b"!")
    with pytest.raises(SetupError, match="is not the published file: sha256") as error:
        get_file(KNOWN, None, heard.append)
    assert SHA256 in str(error.value)
    assert find_file(KNOWN, None) is None
    assert not list(KNOWN.place.parent.glob("*.incomplete"))


def test_a_longer_file_is_refused(hub, heard):
    serve(hub, KNOWN, CONTENT + b"more")
    with pytest.raises(SetupError, match="bytes instead of"):
        get_file(KNOWN, None, heard.append)
    assert find_file(KNOWN, None) is None


@pytest.mark.parametrize("why", ["offline", "absent", "down", "unreachable"])
def test_what_cannot_be_fetched_says_all_that_a_person_needs(hub, heard, monkeypatch, why):
    if why == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elif why == "unreachable":
        monkeypatch.setenv("DGPO_PROMPTS_URL", "http://127.0.0.1:9")
    elif why == "absent":
        hub.files.clear()
    else:
        hub.down = 503
    with pytest.raises(SetupError) as error:
        get_file(KNOWN, None, heard.append)
    sentence = str(error.value)
    reasons = {"offline": "HF_HUB_OFFLINE is set", "absent": "404", "down": "503", "unreachable": "cannot be reached"}
    for fact in (reasons[why], KNOWN.name, KNOWN.url, SHA256, str(KNOWN.place), "--data or DGPO_DATA_DIR"):
        assert fact in sentence
    assert "rewards fetch" not in sentence
    assert error.value.exit_code == 3
    assert (heard == []) == (why == "offline")
    KNOWN.place.parent.mkdir(parents=True, exist_ok=True)
    KNOWN.place.write_bytes(CONTENT)
    assert get_file(KNOWN, None, heard.append) == KNOWN.place


def test_a_damaged_copy_is_fetched_again(hub, heard):
    path = get_file(KNOWN, None, heard.append)
    path.write_bytes(CONTENT[:100])
    assert find_file(KNOWN, None) is None
    assert get_file(KNOWN, None, heard.append).read_bytes() == CONTENT
    assert len(hub.gets()) == 2


@pytest.mark.parametrize("name", [KNOWN.name, KNOWN.path])
def test_the_named_folder_goes_first(hub, heard, tmp_path, monkeypatch, name):
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert get_file(KNOWN, tmp_path / "data", heard.append) == path
    monkeypatch.setenv("DGPO_DATA_DIR", str(tmp_path / "data"))
    assert get_file(KNOWN, None, heard.append) == path
    assert hub.asked == []


def test_a_folder_without_the_file_leaves_it_to_the_cache(hub, heard, tmp_path):
    assert get_file(KNOWN, tmp_path, heard.append) == KNOWN.place


def test_a_folder_with_another_file_under_the_name_is_refused(hub, heard, tmp_path):
    (tmp_path / KNOWN.name).write_text("a cat\n")
    with pytest.raises(UsageError, match=r"is not the published file: its SHA-256 is .* was expected"):
        get_file(KNOWN, tmp_path, heard.append)
    with pytest.raises(UsageError, match=r"There is no folder .*absent"):
        get_file(KNOWN, tmp_path / "absent", heard.append)
    assert hub.asked == []


def test_an_unstated_hash_is_that_of_the_first_download(hub, heard):
    path = get_file(UNKNOWN, None, heard.append)
    assert len(heard) == 2
    assert f"SHA-256 {SHA256}" in heard[1]
    assert UNKNOWN.record.read_text() == f"{SHA256}  words_train.txt\n"
    assert get_file(UNKNOWN, None, heard.append) == path
    assert len(heard) == 2


def test_a_later_change_of_it_is_refused(hub, heard):
    path = get_file(UNKNOWN, None, heard.append)
    path.write_bytes(b"other prompts\n")
    with pytest.raises(SetupError, match="has changed since it was first downloaded"):
        get_file(UNKNOWN, None, heard.append)
    path.unlink()
    serve(hub, UNKNOWN, b"other prompts\n")
    with pytest.raises(SetupError, match="is not the published file: sha256"):
        get_file(UNKNOWN, None, heard.append)
    UNKNOWN.record.unlink()
    assert get_file(UNKNOWN, None, heard.append).read_bytes() == b"other prompts\n"


def test_a_process_that_died_before_recording_it_does_no_harm(hub, heard):
    get_file(UNKNOWN, None, heard.append)
    UNKNOWN.record.unlink()
    assert find_file(UNKNOWN, None) is None
    assert get_file(UNKNOWN, None, heard.append).read_bytes() == CONTENT
    assert UNKNOWN.record.is_file()


def test_several_processes_fetch_the_same_file(hub, heard):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda file: get_file(file, None, heard.append), [KNOWN] * 4))
    assert paths == {KNOWN.place}
    assert len(hub.gets()) == 1
    assert KNOWN.place.read_bytes() == CONTENT


def test_the_table_is_what_the_files_are(data_dir):
    for file in (prompt_files.DRAWBENCH, prompt_files.OCR, prompt_files.PICKSCORE):
        content = (data_dir / file.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)
