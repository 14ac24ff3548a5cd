"""Files behind URLs are listed and read as those on a disk are, and their troubles are reasons."""

import sys

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from benchmarks.harness.listing import list_images
from benchmarks.harness.places import read_file
from benchmarks.harness.stored import read_stored
from rewards.errors import SetupError, UsageError
from tests.benchmarks.stored_images import draw, samples, write_folder, write_table, write_tar

IMAGES = draw(6)
PROMPTS = [f"picture {place % 2}" for place in range(6)]


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.fixture
def stored(tmp_path, memory):
    write_folder(tmp_path / "folder", IMAGES, PROMPTS)
    write_table(tmp_path / "tables" / "a.parquet", IMAGES, PROMPTS)
    write_tar(tmp_path / "tars" / "a.tar", samples(IMAGES[:3], PROMPTS[:3]))
    write_tar(tmp_path / "tars" / "b.tar", samples(IMAGES[3:], PROMPTS[3:], 3))
    memory.put(str(tmp_path), "/shop", recursive=True)
    return tmp_path


@pytest.mark.parametrize("root", ["memory://shop", "file://"])
@pytest.mark.parametrize("source", ["folder", "folder/metadata.csv", "tables", "tables/a.parquet", "tars"])
def test_a_url_is_as_good_as_a_path(stored, root, source):
    root = f"file://{stored}" if root == "file://" else root
    entries, here = list_images([f"{root}/{source}"]), list_images([stored / source])
    assert [entry.image.name for entry in entries] == [entry.image.name.replace(str(stored), root, 1) for entry in here]
    assert [(entry.run, entry.prompt, entry.seed) for entry in entries] == [
        (entry.run, entry.prompt, entry.seed) for entry in here
    ]
    assert [get() for get in read_stored(entry.image for entry in entries)] == IMAGES


@pytest.mark.parametrize("name", ["gone.png", "gone.tar", "gone.parquet"])
def test_what_is_not_there_is_an_entry(memory, name):
    (entry,) = list_images([f"memory://shop/{name}"])
    assert entry.image.name == f"memory://shop/{name}"
    (get,) = read_stored([entry.image])
    with pytest.raises(FileNotFoundError):
        get()


def test_a_list_that_is_not_there_and_kinds_that_nobody_knows_are_refused(memory):
    with pytest.raises(UsageError, match=r"memory://shop/gone\.csv: cannot be read"):
        list_images(["memory://shop/gone.csv"])
    with pytest.raises(UsageError, match="memory://shop/gone: there is no such folder or image"):
        list_images(["memory://shop/gone"])
    with pytest.raises(UsageError, match="Protocol not known: shop"):
        list_images(["shop://a/b.tar"])


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SetupError, match=r"gs://shop/b\.tar: this kind of address needs one more package .*gcsfs"):
        list_images(["gs://shop/b.tar"])


def test_a_far_list_reads_nothing_of_this_disk(tmp_path, memory):
    (tmp_path / "secret.png").write_bytes(IMAGES[0])
    memory.pipe(
        "/shop/list.csv", f"file_name,prompt\n{tmp_path}/secret.png,a\nfile://{tmp_path}/secret.png,b\n".encode()
    )
    for get in read_stored(entry.image for entry in list_images(["memory://shop/list.csv"])):
        with pytest.raises(OSError, match=r"not followed|secret\.png"):
            get()


def test_an_error_of_its_own_kind_is_a_reason(tmp_path, memory, monkeypatch):
    memory.pipe("/shop/a.tar", write_tar(tmp_path / "a.tar", samples(IMAGES, PROMPTS)).read_bytes())
    entries = list_images(["memory://shop/a.tar"])

    class NoCredentials(Exception):
        pass

    def refuse(self, path, mode="rb", **settings):
        raise NoCredentials("Unable to locate credentials for https://me:secret@shop/a.tar")

    monkeypatch.setattr(MemoryFileSystem, "_open", refuse)
    for get in read_stored(entry.image for entry in entries):
        with pytest.raises(OSError, match="NoCredentials: Unable to locate credentials") as caught:
            get()
        assert "secret" not in str(caught.value)
    (lost,) = list_images(["memory://shop/a.tar"])
    assert lost.lost
    monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
    with pytest.raises(SetupError, match=r"memory://shop/: out of reach \(NoCredentials: Unable"):
        list_images(["memory://shop/"])


def test_passwords_are_not_written_down(memory):
    with pytest.raises(UsageError, match="there is a password in this address") as caught:
        list_images(["sftp://me:secret@shop/a.tar"])
    assert "secret" not in str(caught.value)
    (entry,) = list_images(["memory://container@account/a.tar"])
    assert entry.image.name == "memory://container@account/a.tar"


def test_no_more_is_read_than_an_image_may_have(memory):
    memory.pipe("/shop/a.png", bytes(100))
    assert read_file("memory://shop/a.png", 100) == bytes(100)
    with pytest.raises(OSError, match="more than the 99 bytes"):
        read_file("memory://shop/a.png", 99)
