import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dgpo.models import embeddings
from dgpo.models.embeddings import LARGEST, PLACE, Embeddings, open_embeddings
from dgpo.models.families import FAMILIES, family_of
from dgpo.models.flux import Flux
from dgpo.models.pretrained import read_index
from dgpo.models.waiting import brought
from rewards.errors import UsageError
from tests.dgpo.models.test_conformance import TEXT_LENGTH
from tests.dgpo.models.tiny_folders import save_tiny

TEXTS = ["a sign", 'a blue sign that says "basket"', "a"]
PROBE = {"states": torch.tensor([0.1, 0.2])}
ROWS = {"states": torch.tensor([[1.0, 2.0]]), "mask": torch.tensor([True]), "half": torch.tensor([0.1]).bfloat16()}


def files(folder):
    return sorted(folder.rglob("*.safetensors"))


def equal(some, others):
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def test_another_process_finds_what_was_kept(tmp_path):
    Embeddings(tmp_path / "model").keep("a sign", ROWS)
    found = Embeddings(tmp_path / "model").find("a sign")
    assert found is not None
    assert equal(found, ROWS)
    assert [tensor.dtype for tensor in found.values()] == [ROWS[name].dtype for name in found]
    assert Embeddings(tmp_path / "model").find("a sign ") is None
    assert Embeddings(tmp_path / "other").find("a sign") is None


def test_without_a_folder_a_process_remembers_for_itself():
    kept = Embeddings(None)
    kept.keep("a sign", ROWS)
    assert kept.find("a sign") is not None
    assert Embeddings(None).find("a sign") is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def change(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def forge(path):
    save_file({"states": torch.zeros(1, 2)}, path)


@pytest.mark.parametrize("damage", [cut, change, forge, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_counts_as_none_and_is_written_again(tmp_path, damage):
    Embeddings(tmp_path / "model").keep("a sign", ROWS)
    damage(files(tmp_path)[0])
    assert Embeddings(tmp_path / "model").find("a sign") is None
    Embeddings(tmp_path / "model").keep("a sign", ROWS)
    assert Embeddings(tmp_path / "model").find("a sign") is not None


MODEL, OTHER = "a" * 64, "b" * 64  # as models are told apart there


def test_what_was_used_longest_ago_makes_room(tmp_path):
    first = Embeddings(tmp_path / MODEL)
    for number in range(10):
        first.keep(f"text {number}", ROWS)
    size = files(tmp_path)[0].stat().st_size
    for number in range(10):
        path = first._path(f"text {number}")
        assert path is not None
        os.utime(path, (number, number))
    Embeddings(tmp_path / MODEL).find("text 0")  # used now
    Embeddings(tmp_path / OTHER, limit=10 * size).keep("new", ROWS)
    here = Embeddings(tmp_path / MODEL)
    assert [number for number in range(10) if here.find(f"text {number}") is None] == [1, 2]
    assert Embeddings(tmp_path / OTHER).find("new") is not None


def test_what_is_not_ours_is_never_removed(tmp_path):
    theirs = [tmp_path / "flux/transformer/model.safetensors", tmp_path / MODEL / "ab/model.safetensors"]
    killed = tmp_path / MODEL / "ab" / f".{'c' * 32}.safetensors"
    writing = killed.with_name(f".{'d' * 32}.safetensors")
    for path in (*theirs, killed, writing):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0" * 3000)
    os.utime(killed, (1, 1))
    Embeddings(tmp_path / OTHER, limit=2000).keep("new", ROWS)
    assert all(path.is_file() for path in (*theirs, writing))
    assert not killed.exists()


def test_processes_share_one_limit(tmp_path):
    limit = 100_000
    others = [Embeddings(tmp_path / MODEL, limit=limit) for _ in range(8)]
    for number in range(80):
        for place, one in enumerate(others):
            one.keep(f"text {number} of {place}", ROWS)
    assert 0.7 * limit < sum(path.stat().st_size for path in files(tmp_path)) < 1.2 * limit


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path):
    Embeddings(tmp_path / MODEL, limit=100).keep("a sign", ROWS)
    assert files(tmp_path) == []


def test_a_text_that_is_kept_twice_counts_once():
    kept = Embeddings(None)
    for _ in range(3):
        kept.keep("a sign", {"states": torch.zeros(10)})
    assert kept.held == 40


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(embeddings, "IN_MEMORY", 100)
    kept = Embeddings(None)
    for number in range(10):
        kept.keep(str(number), {"states": torch.zeros(10)})
    assert list(kept.memory) == ["8", "9"]


def test_a_disk_that_cannot_be_written_to_is_told_once(tmp_path, caplog):
    (tmp_path / "model").write_text("no folder")
    kept = Embeddings(tmp_path / "model")
    for text in TEXTS:
        kept.keep(text, ROWS)
    assert len(caplog.messages) == 1
    assert "not kept on disk from here on" in caplog.messages[0]
    assert kept.find(TEXTS[0]) is not None


def test_models_machines_and_settings_do_not_share(tmp_path, monkeypatch):
    monkeypatch.setenv(PLACE, str(tmp_path))
    other = {"states": PROBE["states"] + 1e-7}
    folders = [
        open_embeddings("model", PROBE, length=1).folder,
        open_embeddings("another", PROBE, length=1).folder,
        open_embeddings("model", other, length=1).folder,
        open_embeddings("model", PROBE, length=2).folder,
    ]
    assert len(set(folders)) == 4
    assert folders[0] == open_embeddings("model", PROBE, length=1).folder
    assert all(isinstance(folder, Path) and folder.parent == tmp_path for folder in folders)


def test_the_disk_can_be_left_alone(monkeypatch):
    monkeypatch.setenv(LARGEST, "0")
    assert open_embeddings("model", PROBE).folder is None
    for wrong in ("many", "nan", "-1"):
        monkeypatch.setenv(LARGEST, wrong)
        with pytest.raises(UsageError, match=f"DGPO_EMBEDDINGS_GB is '{wrong}'; give a number of gigabytes"):
            open_embeddings("model", PROBE)


def test_its_place_stays_where_it_was_when_somebody_changes_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PLACE, "cache")
    folder = open_embeddings("model", PROBE).folder
    assert folder is not None
    assert folder.parent == tmp_path / "cache"


EVERYDAY = ("QwenImagePipeline", "StableDiffusion3Pipeline")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERYDAY else pytest.mark.slow) for name in sorted(FAMILIES)]
)
def test_families_give_the_same_bits_with_and_without(name, tmp_path, monkeypatch):
    monkeypatch.setenv(PLACE, str(tmp_path / "cache"))
    folder = save_tiny(name, tmp_path / "model")
    family = family_of(folder, read_index(folder))

    def load():
        length = TEXT_LENGTH.get(name, 24)
        return family.load(folder, dtype=torch.float32, device=torch.device("cpu"), text_length=length)

    first, second = load(), load()
    vars(first)["embeddings"] = None
    without = first.encode(TEXTS)
    assert equal(without.tensors(), second.encode(TEXTS).tensors())
    assert len(files(tmp_path / "cache")) == len(TEXTS)
    third = load()
    monkeypatch.setattr(family, "encode_text", None)  # nobody reads
    assert equal(without.tensors(), third.encode(TEXTS).tensors())
    turned = third.encode(TEXTS[::-1])
    assert equal(turned.take(torch.tensor([2, 1, 0])).tensors(), without.tensors())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="text encoders wait beside a GPU")
def test_text_encoders_are_on_the_device_only_while_they_read(tmp_path):
    folder = save_tiny("FluxPipeline", tmp_path / "model")
    model = Flux.load(folder, dtype=torch.float32, device=torch.device("cuda"), text_length=24)
    model.embeddings = Embeddings(None)
    read = []
    own = model.encode_text

    def listen(text):
        read.append((text, model.pipeline.text_encoder.device.type))
        return own(text)

    vars(model)["encode_text"] = listen
    model.encode(TEXTS[:1], soon=TEXTS)
    assert read == [(text, "cuda") for text in TEXTS]
    assert model.pipeline.text_encoder.device.type == "cpu"
    model.encode(TEXTS)
    assert len(read) == len(TEXTS)


def test_parts_are_where_they_were_even_after_an_error():
    part = torch.nn.BatchNorm1d(2)  # with parameters and buffers
    before = [tensor.data_ptr() for tensor in part.state_dict(keep_vars=True).values()]

    def fail():
        with brought([part], torch.device("cpu")):
            part.weight.data = part.weight.data + 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [tensor.data_ptr() for tensor in part.state_dict(keep_vars=True).values()] == before
