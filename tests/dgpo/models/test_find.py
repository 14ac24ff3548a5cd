"""What a model's name means, without asking anybody."""

import pytest

from dgpo.models.find import TINY, find_model
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
    said = refusal("runs/nothere")
    assert "There is no model folder runs/nothere" in said
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
