"""What a model's name means, without asking anybody."""

from pathlib import Path

import pytest

from dgpo.models.find import TINY, HubId, find_model
from rewards.errors import UsageError


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(name):
    with pytest.raises(UsageError) as refused:
        find_model(name)
    return str(refused.value)


def test_the_embedded_model_goes_before_a_folder_of_that_name(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert find_model("tiny") == TINY
    assert "no diffusers folder" in refusal("./tiny")


def test_owner_and_name_is_a_hub_id():
    assert find_model("stabilityai/stable-diffusion-3.5-medium") == "stabilityai/stable-diffusion-3.5-medium"


@pytest.mark.parametrize("revision", ["main", "v1.0-rc+1", "7", "0123abc", "a" * 40, "refs/pr/1", "feature/x_y"])
def test_a_hub_id_may_have_a_revision(revision):
    assert find_model(f"owner/na.me@{revision}") == f"owner/na.me@{revision}"
    assert HubId.of(f"owner/na.me@{revision}") == ("owner/na.me", revision)
    assert HubId.of("owner/na.me") == ("owner/na.me", None)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("tiny", "tiny"),
        ("o/n", "n"),
        ("o/n@v1.0", "n@v1.0"),
        ("o/n@refs/pr/1", "n@refs-pr-1"),
        (f"o/n@{'0123456789' * 4}", "n@01234567"),
    ],
)
def test_what_is_named_after_a_model_is_one_part_of_a_path(name, short):
    assert HubId.of(name).short == short


def test_revision_that_is_none_is_refused():
    assert "owner/name@ names no revision; write a branch, tag or commit" in refusal("owner/name@")
    for odd in ("a b", "../../x", "/x", "x/", "a//b", "-x", "a@b", "a:b", "a\0"):
        assert "is no name that a branch, tag or commit can have" in refusal(f"owner/name@{odd}")


@pytest.mark.parametrize("revision", ["", "x", "7", "refs/pr/1"])
def test_the_embedded_model_has_no_revisions(revision):
    assert "tiny is the embedded model, which has no revisions" in refusal(f"tiny@{revision}")


@pytest.mark.parametrize("name", ["mine", "./mine", "models/mine"])
def test_a_folder_has_no_revisions(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    for revision in ("v1", "7", "", "refs/pr/1"):
        assert f"There is no folder {name}@{revision}. {name} is one, and has no revisions" in refusal(
            f"{name}@{revision}"
        )


@pytest.mark.parametrize("name", ["mine@v1", "./mine@v1", "owner/name@v1", "own@er/name", "tiny@x"])
def test_a_folder_that_has_an_at_in_its_name_is_that_folder(tmp_path, model_folder, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(model_folder)
    assert find_model(name) == Path(name)


@pytest.mark.parametrize("name", ["./absent@v1", "/absent/model@v1", "a@b/c/../d", "m/x@1.safetensors"])
def test_path_with_an_at_that_is_not_there_is_no_hub_id(name):
    assert f"There is no model folder {name}" in refusal(name)


@pytest.mark.parametrize(
    "name",
    ["./absent", "/absent/model", "a/b/c", "~/absent", "m/one.safetensors", "one.ckpt", "owner/", "a\\b", "m/x.yaml"],
)
def test_path_that_is_not_there_is_no_hub_id(name):
    assert f"There is no model folder {name}" in refusal(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("https://huggingface.co/stabilityai/stable-diffusion-3.5-medium", "stabilityai/stable-diffusion-3.5-medium"),
        ("https://huggingface.co/a/b/tree/main", "a/b"),
        ("https://huggingface.co/a/b/tree/refs%2Fpr%2F1/vae", "a/b@refs/pr/1"),
        ("https://huggingface.co/a/b/commit/0123abc", "a/b@0123abc"),
        ("https://hf.co/a/b?x=1", "a/b"),
        ("http://elsewhere.org/a/b", None),
    ],
)
def test_an_address_is_no_model_and_that_of_a_models_page_names_it(name, hint):
    said = refusal(name)
    assert "is an address, and a model of the hub is named OWNER/NAME." in said
    assert said.endswith(f'is "{hint}".' if hint else "OWNER/NAME.")


def test_first_part_that_is_a_folder_makes_it_a_path(tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("runs/nothere", "runs/nothere@7"):
        said = refusal(name)
        assert f"There is no model folder {name}" in said
        assert "runs is a folder here" in said


def test_word_gets_the_nearest():
    assert 'Did you mean "tiny"?' in refusal("tinny")


@pytest.mark.parametrize("name", ["", "a b/c", "x" * 5000, "o/" + "x" * 300 + "\0", "-o/x y"])
def test_odd_names_are_refused_in_a_sentence(name):
    assert "There is no model" in refusal(name)


def test_home_folder_is_found(tmp_path, monkeypatch, model_folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").symlink_to(model_folder)
    assert find_model("~/mine") == tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a file.safetensors", "dgpo models convert 'a file.safetensors' --like MODEL --output DIR"),
        ("m/one.ckpt", "`dgpo models convert` makes one of a .safetensors file: get the model as one"),
    ],
)
def test_single_file_is_told_how_it_becomes_a_folder(tmp_path, name, advice):
    (tmp_path / "m").mkdir()
    (tmp_path / name).write_bytes(b"weights")
    said = refusal(name)
    assert "single file" in said
    assert advice in said


def test_another_file_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "is a file, and a model is a folder" in refusal("notes.txt")
