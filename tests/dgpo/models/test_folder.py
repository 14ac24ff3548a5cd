"""Folders of models that lack something or hold something broken are refused by name, before a library sees them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from dgpo.load import load_drawer, load_model
from dgpo.models.find import find_model
from rewards.errors import SetupError
from tests.dgpo.unet import save_unet

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


@pytest.fixture
def folder(tmp_path, model_folder):
    return shutil.copytree(model_folder, tmp_path / "model")


def cut(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1000])


def lengthen(folder):
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"0")


def keep_variants_only(folder):
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))


def pickle_only(folder):
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def shard(folder, present):
    path = folder / WEIGHTS
    tensors = load_file(path)
    names = sorted(tensors)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    path.unlink()
    for name in present:
        save_file({key: tensors[key] for key in halves[name]}, path.with_name(name), metadata={"format": "pt"})
    places = {key: name for name, keys in halves.items() for key in keys}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def write(name, content):
    def change(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def remove(name):
    def change(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def dangle(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("nowhere")


BROKEN = {
    "pointer": (write(WEIGHTS, POINTER), WEIGHTS, "git lfs pull"),
    "config pointer": (write("vae/config.json", POINTER), "vae/config.json", "git lfs pull"),
    "cut": (cut, WEIGHTS, "is not whole"),
    "longer": (lengthen, WEIGHTS, "is not whole"),
    "empty weights": (write(WEIGHTS, b""), WEIGHTS, "cut off"),
    "no safetensors": (write(WEIGHTS, b"\xff" * 100), WEIGHTS, "cut off or no safetensors"),
    "broken header": (write(WEIGHTS, (4).to_bytes(8, "little") + b"{{{{"), WEIGHTS, "is damaged"),
    "odd header": (write(WEIGHTS, (8).to_bytes(8, "little") + b'{"a": 1}'), WEIGHTS, "is damaged"),
    "variants": (keep_variants_only, "text_encoder", 'variant="fp16"'),
    "pickle": (pickle_only, "vae", "only safetensors are taken"),
    "no weights": (remove(WEIGHTS), "transformer", "holds no weights"),
    "missing shard": (lambda folder: shard(folder, ["one.safetensors"]), "two.safetensors", "not beside it"),
    "shardless": (
        lambda folder: write(f"{WEIGHTS}.index.json", "{}")(shard(folder, []) or folder),
        "index",
        "names no",
    ),
    "dangling link": (dangle, WEIGHTS, "not there"),
    "no vae": (remove("vae"), "vae", "no folder vae"),
    "no text encoder": (remove("text_encoder"), "text_encoder", "no folder text_encoder"),
    "no tokenizer": (remove("tokenizer"), "tokenizer", "no folder tokenizer"),
    "empty index": (write("model_index.json", ""), "model_index.json", "is not JSON"),
    "torn index": (write("model_index.json", "{"), "model_index.json", "is not JSON"),
    "index with a mark": (write("model_index.json", b"\xef\xbb\xbf{}"), "model_index.json", "BOM"),
    "binary index": (write("model_index.json", bytes(range(256))), "model_index.json", "is not JSON"),
    "index of another kind": (write("model_index.json", "[]"), "model_index.json", "JSON object"),
    "deep index": (write("model_index.json", "[" * 100_000), "model_index.json", "nested too deep"),
    "torn config": (write("vae/config.json", "{"), "vae/config.json", "is not JSON"),
    "deep config": (write("vae/config.json", '{"a":' * 100_000), "vae/config.json", "nested too deep"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_folder_is_told_by_the_file_and_what_to_do(folder, kind):
    change, name, words = BROKEN[kind]
    change(folder)
    with pytest.raises(SetupError) as refused:
        find_model(str(folder))
    assert name in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_whole_folders_pass(folder, tmp_path):
    assert find_model(str(folder)) == folder
    shard(folder, ["one.safetensors", "two.safetensors"])
    assert load(folder).transformer is not None
    assert find_model(str(save_unet(tmp_path / "unet"))) == tmp_path / "unet"


def drop_a_tensor(component):
    def change(folder):
        path = next((folder / component).glob("*.safetensors"))
        tensors = load_file(path)
        del tensors[sorted(tensors)[0]]
        save_file(tensors, path, metadata={"format": "pt"})

    return change


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_weights_that_are_not_in_the_files_are_never_made_up(folder, component):
    drop_a_tensor(component)(folder)
    with pytest.raises(SetupError, match="lacks weights that its networks have, and they would be random"):
        load(folder)


def load(folder):
    return load_model(str(folder), dtype="fp32", device=torch.device("cpu"), text_length=0)


INSIDE = {
    "empty tokenizer": lambda folder: write("tokenizer/tokenizer.json", "{}")(folder),
    "no scheduler config": remove("scheduler/scheduler_config.json"),
    "no class": write("model_index.json", '{"_class_name": "StableDiffusion3Pipeline"}'),
    "sizes that do not fit": write("transformer/config.json", '{"_class_name": "SD3Transformer2DModel"}'),
    "numbers that are words": write(
        "vae/config.json", '{"_class_name": "AutoencoderKL", "block_out_channels": "wide", "latent_channels": null}'
    ),
}


@pytest.mark.parametrize("kind", INSIDE)
def test_what_only_the_libraries_can_see_is_a_sentence_too(folder, kind):
    INSIDE[kind](folder)
    with pytest.raises(SetupError, match="could not be loaded") as refused:
        load(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_families_are_told_in_the_same_way(tmp_path):
    folder = save_unet(tmp_path / "unet")
    write("unet/diffusion_pytorch_model.safetensors", POINTER)(folder)
    with pytest.raises(SetupError, match="git lfs pull"):
        load_drawer(str(folder), {}, torch.device("cpu"), precision="fp32")
