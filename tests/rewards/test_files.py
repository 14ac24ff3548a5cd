import os
import stat
from pathlib import Path

import pytest

from rewards.errors import UsageError
from rewards.files import fingerprint, replace_file, sha256


def test_replacing_a_file_leaves_no_partial_one(tmp_path):
    replace_file(tmp_path / "a", b"one")
    replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_new_file_follows_the_umask_and_an_old_one_keeps_its_mode(tmp_path):
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "new", b"")
    finally:
        os.umask(before)
    (tmp_path / "old").touch(0o600)
    (tmp_path / "old").chmod(0o604)
    replace_file(tmp_path / "old", b"")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")] == [0o640, 0o604]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(Path("there") / "file")
    replace_file(tmp_path / "link", b"one")
    replace_file(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"two"


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in (("pipe", "a pipe"), ("folder", "a folder")):
        with pytest.raises(UsageError, match=f"{name} is {kind}, not a file"):
            replace_file(tmp_path / name, b"x")
    assert (tmp_path / "pipe").is_fifo()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    replace_file(tmp_path / "a", b"one")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_fingerprint_is_of_names_and_contents(tmp_path):
    (tmp_path / "m" / "unet").mkdir(parents=True)
    (tmp_path / "m" / "unet" / "w").write_bytes(b"abc")
    first = fingerprint(tmp_path / "m")
    (tmp_path / "m" / ".cache").write_bytes(b"left out")
    assert fingerprint(tmp_path / "m") == first
    (tmp_path / "m" / "unet" / "w").write_bytes(b"abd")  # the same size
    second = fingerprint(tmp_path / "m")
    (tmp_path / "m" / "unet" / "w").rename(tmp_path / "m" / "unet" / "v")
    assert len({first, second, fingerprint(tmp_path / "m")}) == 3
    assert sha256(tmp_path / "m" / "unet" / "v") == "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"


def test_a_fingerprint_follows_links_and_leaves_out_what_nobody_reads(tmp_path):
    model, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
    model.mkdir()
    elsewhere.mkdir()
    (elsewhere / "w").write_bytes(b"abc")
    (model / "unet").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(model)  # for ever, if followed for ever
    (model / "notes.txt").write_text("one")
    first = fingerprint(model, ["unet"])
    (model / "notes.txt").write_text("other")
    assert fingerprint(model, ["unet"]) == first
    (elsewhere / "w").write_bytes(b"abd")
    assert fingerprint(model, ["unet"]) != first
