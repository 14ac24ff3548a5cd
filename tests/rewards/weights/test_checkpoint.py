"""Checkpoints of every format, whole and broken, into networks that fit and that do not."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rewards.errors import SetupError
from rewards.weights.checkpoint import list_shards, load_strictly, read_config, read_shards, read_state

MAPS = Path("/proc/self/maps")
STATE = {"0.weight": torch.arange(6.0).view(2, 3), "0.bias": torch.tensor([1.0, -1.0]), "1.weight": torch.ones(1, 2)}


def network():
    with torch.device("meta"):
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1, bias=False), torch.nn.Dropout(0.5))


def save(path, state, **how):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, **how)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_every_format_is_read(tmp_path, suffix):
    state = read_state(save(tmp_path / f"network{suffix}", STATE))
    assert {key: tensor.tolist() for key, tensor in state.items()} == {k: t.tolist() for k, t in STATE.items()}


def test_a_file_of_the_old_format_is_read(tmp_path):
    path = save(tmp_path / "network.pt", STATE, _use_new_zipfile_serialization=False)
    assert read_state(path)["0.bias"].tolist() == [1.0, -1.0]


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not say which files are mapped")
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_tensors_are_mapped_not_read(tmp_path, suffix):
    path = save(tmp_path / f"network{suffix}", STATE)
    state = read_state(path)
    assert str(path) in MAPS.read_text()
    assert state["0.bias"].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_that_is_cut_short_is_to_be_fetched_again(tmp_path, suffix):
    path = save(tmp_path / f"network{suffix}", STATE)
    os.truncate(path, path.stat().st_size - 20)
    with pytest.raises(SetupError, match=r"network\.\w+ cannot be read as a checkpoint .* fetch it again"):
        read_state(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04 and no more"])
def test_what_is_no_checkpoint_is_a_sentence(tmp_path, suffix, content):
    path = tmp_path / f"network{suffix}"
    path.write_bytes(content)
    with pytest.raises(SetupError, match="fetch it again"):
        read_state(path)


class Intruder:
    def __reduce__(self):
        return os.getcwd, ()


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    with pytest.raises(SetupError, match="cannot be read as a checkpoint"):
        read_state(save(tmp_path / "network.pt", {"0.weight": Intruder()}))


def test_a_network_gets_the_tensors_and_is_set_to_inference(tmp_path):
    loaded = network()
    load_strictly(loaded, STATE, tmp_path)
    assert loaded(torch.tensor([1.0, 1.0, 1.0])).tolist() == [3.0 + 1 + 12 - 1]
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_tensors_are_taken_as_they_are(tmp_path):
    loaded = network()
    load_strictly(loaded, {key: tensor.half() for key, tensor in STATE.items()}, tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float16}


def test_each_fault_is_named_with_the_file(tmp_path):
    state = {"0.weight": torch.ones(3, 2), "1.weight": STATE["1.weight"], "head": torch.ones(1)}
    with pytest.raises(SetupError) as caught:
        load_strictly(network(), state, tmp_path / "network.pt")
    for words in ("network.pt", "lacks 0.bias", "unexpected head", "0.weight ([3, 2] instead of [2, 3])"):
        assert words in str(caught.value)


def test_many_faults_are_counted(tmp_path):
    extra = {f"extra.{index:02}": torch.ones(1) for index in range(13)}
    with pytest.raises(SetupError, match=r"extra\.09 and 3 more") as caught:
        load_strictly(network(), STATE | extra, tmp_path)
    assert "extra.10" not in str(caught.value)


def test_ignored_keys_may_be_there_or_not(tmp_path):
    load_strictly(network(), STATE | {"counting": torch.arange(3)}, tmp_path, ignore=["counting"])
    load_strictly(network(), STATE, tmp_path, ignore=["counting"])


def test_a_config_that_is_no_json_object_is_a_sentence(tmp_path):
    path = tmp_path / "config.json"
    for content in ("", "[1]", '{"a": 1'):
        path.write_text(content)
        with pytest.raises(SetupError, match=r"config\.json .* fetch it again"):
            read_config(path)
    path.write_text('{"a": 1}')
    assert read_config(path) == {"a": 1}


SHARDS = {"model-1-of-2.safetensors": ("0.weight", "0.bias"), "model-2-of-2.safetensors": ("1.weight",)}


@pytest.fixture
def index(tmp_path):
    """STATE cut into two files, as the hub publishes large networks."""
    for name, keys in SHARDS.items():
        save_file({key: STATE[key] for key in keys}, tmp_path / name)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {key: name for name, keys in SHARDS.items() for key in keys}}))
    return path


def test_shards_give_one_state(index):
    state = read_shards(index)
    assert {key: tensor.tolist() for key, tensor in state.items()} == {k: t.tolist() for k, t in STATE.items()}
    assert list_shards(index) == {name: index.parent / name for name in SHARDS}


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not say which files are mapped")
def test_shards_are_mapped_not_read(index):
    state = read_shards(index)
    assert all(str(index.parent / name) in MAPS.read_text() for name in SHARDS)
    assert state["0.bias"].tolist() == [1.0, -1.0]


def test_a_checkpoint_in_one_file_needs_no_index(tmp_path):
    path = save(tmp_path / "model.safetensors", STATE)
    assert set(read_shards(path)) == set(STATE)
    assert list_shards(path) == {"model.safetensors": path}


def test_a_shard_that_is_missing_is_named(index):
    (index.parent / "model-2-of-2.safetensors").unlink()
    for read in (read_shards, list_shards):
        with pytest.raises(SetupError, match=r"index\.json names files .* not beside it: model-2-of-2\.safetensors;"):
            read(index)


@pytest.mark.parametrize(
    ("keys", "words"), [(("0.weight",), "it lacks 0.bias"), (("0.weight", "0.bias", "1.weight"), "also holds 1.weight")]
)
def test_a_shard_holds_exactly_what_the_index_says(index, keys, words):
    save_file({key: STATE[key] for key in keys}, index.parent / "model-1-of-2.safetensors")
    with pytest.raises(SetupError, match=f"model-1-of-2.safetensors is not the file .* {words}"):
        read_shards(index)


@pytest.mark.parametrize(
    "content", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": {"a": "../a"}}, {"weight_map": {"a": 1}}]
)
def test_an_index_names_files_beside_it(index, content):
    index.write_text(json.dumps(content))
    with pytest.raises(SetupError, match=r"index\.json names no files beside it"):
        read_shards(index)
