"""Models and prompts known by what they hold."""

import shutil

import pytest

from dgpo.contents import changed, model_contents, prompts_contents, text_contents
from tests.dgpo.models.hub_cache import keep


def test_a_model_is_what_is_read_of_it_wherever_it_lies(model_folder, tmp_path):
    first = model_contents(str(model_folder))
    moved = shutil.copytree(model_folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("not read")
    (moved / "single_file.safetensors").write_bytes(b"not read")
    assert model_contents(str(moved)) == first
    weights = moved / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))  # as long as it was
    assert model_contents(str(moved)) != first
    assert str(model_contents("tiny")).startswith("contents:")


def test_without_a_usable_index_everything_counts(tmp_path):
    for text in ("[", "[]", "{}", '{"_class_name": "X"}'):
        (tmp_path / "model_index.json").write_text(text)
        (tmp_path / "w").write_bytes(b"1")
        first = model_contents(str(tmp_path))
        (tmp_path / "w").write_bytes(b"2")
        assert model_contents(str(tmp_path)) != first


def test_a_hub_model_is_its_commit_by_name_and_by_its_folder_in_the_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--o--n"
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "model_index.json").write_text("{}")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        assert model_contents("o/n") == commit
    assert model_contents(str(repository / "snapshots" / ("a" * 40))) == "a" * 40
    assert model_contents("o/absent") is None


def test_a_revision_of_a_hub_model_is_its_own_commit(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    now, then = "a" * 40, "b" * 40
    keep(tmp_path / "cache", "o/n", tmp_path / "model", now, "main")
    keep(tmp_path / "cache", "o/n", tmp_path / "model", then, "v1", "refs/pr/1")
    for name, commit in {
        "o/n": now,
        "o/n@main": now,
        "o/n@v1": then,
        "o/n@refs/pr/1": then,
        f"o/n@{then}": then,
    }.items():
        assert model_contents(name) == text_contents(name) == commit
    assert model_contents("o/n@v2") is model_contents(f"o/n@{'c' * 40}") is None


def test_prompts_count_in_their_order():
    assert len({prompts_contents(ids) for ids in (["a", "b"], ["b", "a"], ["a"], ["ab"])}) == 4


@pytest.mark.parametrize(
    ("there", "here", "told"),
    [
        ({"model": "a"}, {"model": "a", "prompts": "b"}, []),
        ({"model": "a"}, {"model": "b"}, ["the base model had other contents (a then, b now)"]),
        ({"model": ["odd"]}, {"model": "b"}, ["the base model had other contents (['odd'] then, b now)"]),
        ({"weights": {"x@1": "a"}}, {"weights": {"y@1": "b"}}, []),
        ({"weights": {"x@1": "a"}}, {"weights": {"x@1": "b"}},
         ["the reward weights of x@1 had other contents (a then, b now)"]),
    ],
)  # fmt: skip
def test_changes_are_told_where_both_are_known(there, here, told):
    assert list(changed(there, here)) == told
