"""Models of the hub, by a hub on this machine: a refusal names the page to go to and the command to give."""

import errno
import json

import pytest
import torch

from dgpo.load import load_model
from dgpo.models.hub import fetch_file, told_of_the_hub
from rewards.errors import SetupError
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


def publish(hub, folder):
    """All files of a folder, as the hub serves a repository."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    for name, path in zip(names, paths, strict=True):
        hub.add_small(NAME, "main", name, path.read_bytes())
    about = {"id": NAME, "modelId": NAME, "sha": "main", "siblings": [{"rfilename": name} for name in names]}
    tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
    api = f"/api/models/{NAME}"
    for path, answer in (
        (api, about),
        (f"{api}/revision/main", about),
        (f"{api}/tree/main?recursive=true&expand=false", tree),
    ):
        hub.files[path] = Served(json.dumps(answer).encode(), etag="answer")


def load():
    return load_model(NAME, dtype="fp32", device=torch.device("cpu"), text_length=0)


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
