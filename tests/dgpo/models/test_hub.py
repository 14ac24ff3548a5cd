"""Models of the hub, by a hub on this machine: a refusal names the page to go to and the command to give."""

import errno
import json

import pytest
import torch

from dgpo.contents import model_contents, text_contents
from dgpo.load import load_model
from dgpo.models.hub import fetch_file, told_of_the_hub
from dgpo.models.lora import FILE, find_lora
from dgpo.models.pretrained import is_here
from rewards.errors import SetupError, UsageError
from tests.rewards.hub import Hub, Served

NAME = "someone/some-model"
INDEX = f"/{NAME}/resolve/main/model_index.json"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that this process takes for the real one, with an empty cache and nobody logged in."""
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    yield hub
    hub.close()


def publish(hub, folder, revision="main"):
    """All files of a folder, as the hub serves a repository at one revision."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    for name, path in zip(names, paths, strict=True):
        hub.add_small(NAME, revision, name, path.read_bytes())
    about = {"id": NAME, "modelId": NAME, "sha": revision, "siblings": [{"rfilename": name} for name in names]}
    tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
    api = f"/api/models/{NAME}"
    for path, answer in (
        (api, about),
        (f"{api}/revision/{revision}", about),
        (f"{api}/tree/{revision}?recursive=true&expand=false", tree),
    ):
        hub.files[path] = Served(json.dumps(answer).encode(), etag="answer")


def load(name=NAME):
    return load_model(name, dtype="fp32", device=torch.device("cpu"), text_length=0)


def refusal(hub, **answer):
    hub.add_small(NAME, "main", "model_index.json", b"{}", **answer)
    with pytest.raises(SetupError) as refused:
        load()
    assert "\n" not in str(refused.value)
    assert len([one for one in hub.asked if one.path == INDEX]) == 1
    return str(refused.value)


def test_model_of_the_hub_is_fetched_and_loaded(hub, model_folder):
    publish(hub, model_folder)
    assert load().transformer.config.sample_size
    hub.down = 503
    assert fetch_file(NAME).name == "model_index.json"


@pytest.mark.parametrize("revision", ["v2", "c" * 40])
def test_a_revision_is_what_is_fetched_loaded_and_recorded(hub, model_folder, revision):
    publish(hub, model_folder, revision)
    named = f"{NAME}@{revision}"
    assert not is_here(named, "model_index.json")
    assert load(named).transformer.config.sample_size
    assert {one.path.split("/resolve/")[1].split("/")[0] for one in hub.asked if "/resolve/" in one.path} == {revision}
    assert not [one.path for one in hub.asked if "main" in one.path]
    assert model_contents(named) == text_contents(named) == revision
    assert is_here(named, "model_index.json")
    assert model_contents(NAME) is None
    assert not is_here(NAME, "model_index.json")


def test_a_revision_with_slashes_is_fetched(hub):
    hub.add_small(NAME, "refs%2Fpr%2F1", "model_index.json", b"{}")
    assert fetch_file(f"{NAME}@refs/pr/1").read_bytes() == b"{}"
    hub.down = 503
    assert fetch_file(f"{NAME}@refs/pr/1").read_bytes() == b"{}"


def refused(hub, name, revision, error_code):
    hub.add_small(NAME, revision, "model_index.json", b"", status=404, error_code=error_code)
    with pytest.raises(SetupError) as refused:
        load(name)
    return str(refused.value)


def test_a_revision_that_the_hub_does_not_know(hub):
    said = refused(hub, f"{NAME}@v3", "v3", "RevisionNotFound")
    assert said.startswith(f"{NAME} is on the hub, but has no revision v3. Check the branch, tag or commit")
    assert len([one for one in hub.asked if NAME in one.path]) == 1


def test_a_number_that_is_no_revision_may_have_been_a_step(hub):
    for code, sentence in (("RevisionNotFound", "no revision 7."), ("RepoNotFound", "or it is private.")):
        said = refused(hub, f"{NAME}@7", "7", code)
        assert f"{sentence} There is no run folder {NAME} here either. Check" in said


def test_without_a_network_too(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match=rf"is set\. There is no run folder {NAME} here either\. Unset it"):
        load(f"{NAME}@7")


def test_absent_model_is_named_without_the_revision(hub):
    assert f"There is no model {NAME} on the hub" in refused(hub, f"{NAME}@v3", "v3", "RepoNotFound")


def test_gate_of_a_revision_is_at_the_models_page(hub):
    said = refused(hub, f"{NAME}@v3", "v3", "GatedRepo")
    assert f"The model {NAME}@v3 is gated: accept its licence at https://huggingface.co/{NAME}, then" in said


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (NAME, f"main/{FILE}"),
        (f"{NAME}/styles/one.safetensors", "main/styles/one.safetensors"),
        (f"{NAME}@v2", f"v2/{FILE}"),
        (f"{NAME}@v2/styles/one.safetensors", "v2/styles/one.safetensors"),
        (f"{NAME}@refs/pr/1", f"refs%2Fpr%2F1/{FILE}"),
        (f"{NAME}@refs/pr/1/one.safetensors", "refs%2Fpr%2F1/one.safetensors"),
        (f"{NAME}@feature/x", f"feature%2Fx/{FILE}"),
    ],
)
def test_a_lora_is_fetched_from_its_revision(hub, text, path):
    revision, _, file = path.partition("/")
    hub.add_small(NAME, revision, file, b"a LoRA")
    assert find_lora(text).read_bytes() == b"a LoRA"
    assert {one.path for one in hub.gets()} == {f"/{NAME}/resolve/{path}"}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"status": 401, "error_code": "RepoNotFound"}, "There is no LoRA someone/some-model on the hub"),
        ({"status": 404, "error_code": "RevisionNotFound"}, "is on the hub, but has no revision 7. Check the branch"),
        ({"status": 404, "error_code": "EntryNotFound"}, f"has no such file of a LoRA ({FILE}, where none is named)"),
        ({"status": 401, "error_code": "GatedRepo"}, f"The LoRA {NAME}@7 is gated"),
        ({"status": 503}, f"The LoRA {NAME}@7 could not be loaded: the hub answers 503"),
    ],
)
def test_what_a_lora_is_refused_for_speaks_of_a_lora(hub, answer, sentence):
    hub.add_small(NAME, "7", FILE, b"", **answer)
    with pytest.raises(SetupError) as refused:
        find_lora(f"{NAME}@7")
    assert sentence in str(refused.value)
    assert "model" not in str(refused.value).replace(NAME, "")


def test_with_a_lora_of_peft_its_strength_is_fetched(hub):
    for file, content in (("best/adapter_model.safetensors", b"a LoRA"), ("best/adapter_config.json", b"{}")):
        hub.add_small(NAME, "v1", file, content)
    found = find_lora(f"{NAME}@v1/best/adapter_model.safetensors")
    assert found.with_name("adapter_config.json").read_bytes() == b"{}"


def test_what_can_be_no_lora_is_refused_before_the_hub_is_asked(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "styles/one").mkdir(parents=True)
    for text, sentence in {
        f"{NAME}@": "names no revision",
        f"{NAME}@/one.safetensors": "names no revision",
        f"{NAME}@a b": "is no name that a branch, tag or commit can have",
        "styles/one@v1": "styles/one is one, and has no revisions",
        "./absent@v1": "There is no LoRA ./absent@v1: give",
        f"{NAME}/one.bin": "There is no LoRA",
        "word@v1": "There is no LoRA word@v1: give",
    }.items():
        with pytest.raises(UsageError) as refused:
            find_lora(text)
        assert sentence in str(refused.value), text
    assert not hub.asked


def test_gated_model_names_its_licence_and_the_log_in(hub, monkeypatch):
    said = refusal(hub, status=401, error_code="GatedRepo")
    assert f"https://huggingface.co/{NAME}" in said
    assert "hf auth login" in said
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.asked.clear()
    said = refusal(hub, status=403, error_code="GatedRepo")
    assert f"https://huggingface.co/{NAME}" in said
    assert "token has no access" in said
    assert "hf_secret" not in said


def test_gate_behind_an_open_index_is_told_through_the_library_too(hub, model_folder):
    publish(hub, model_folder)
    for path, served in hub.files.items():
        if path.endswith(".safetensors"):
            served.status, served.error_code = 403, "GatedRepo"
    with pytest.raises(SetupError, match=f"gated: accept its licence at https://huggingface.co/{NAME}"):
        load()


def test_absent_or_private_model(hub):
    assert "There is no model someone/some-model on the hub, or it is private" in refusal(
        hub, status=401, error_code="RepoNotFound"
    )


def test_refused_token_is_told_from_an_absent_model(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    said = refusal(hub, status=401, error_message="Invalid credentials in Authorization header")
    assert "refuses this machine's token" in said
    assert "hf auth login" in said
    assert "hf_expired" not in said


def test_repository_of_something_else(hub):
    assert "is no diffusers model" in refusal(hub, status=404, error_code="EntryNotFound")


def test_hub_in_trouble_is_asked_once(hub):
    assert "the hub answers 503" in refusal(hub, status=503)


def test_hub_out_of_reach_is_told_at_once(hub, monkeypatch):
    hub.close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: pytest.fail("tries again"))
    with pytest.raises(SetupError, match=r"could not be loaded from the hub.*connection.*local diffusers folder"):
        load()


def test_offline_is_named_as_the_reason(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="HF_HUB_OFFLINE is set"):
        load()
    assert not hub.asked


def test_full_disk_names_the_cache_and_another_place(hub):
    with pytest.raises(SetupError, match=r"disk is full.*HF_HOME=DIR"), told_of_the_hub(NAME):
        raise OSError("wrapped by a library") from OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("token", ["a-secret é", "a-secret b", "a-secret\x1b"])
def test_a_token_that_no_request_can_carry_is_told_and_not_shown(hub, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SetupError, match="token for the hub") as refused:
        load()
    assert "a-secret" not in str(refused.value)
