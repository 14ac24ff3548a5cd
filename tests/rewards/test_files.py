import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewards.errors import UsageError
from rewards.files import (
    append_file,
    check_writable,
    fingerprint,
    is_stream,
    locked,
    locked_together,
    move,
    read_json,
    read_json_lines,
    replace_file,
    replacing,
    sha256,
    sha256_of,
    write_json,
)


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


def test_a_link_that_a_person_named_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(Path("there") / "file")
    replace_file(tmp_path / "link", b"one", named=True)
    replace_file(tmp_path / "link", b"two", named=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"two"


def test_a_file_of_ours_leads_nowhere(tmp_path):
    """Neither by a link in its place nor by one in that of its draft, as a prepared folder may hold; a pipe stays."""
    (tmp_path / "theirs").write_bytes(b"kept")
    (tmp_path / "a").symlink_to("theirs")
    (tmp_path / ".a.partial").symlink_to("theirs")
    replace_file(tmp_path / "a", b"ours")
    assert not (tmp_path / "a").is_symlink()
    assert [(tmp_path / name).read_bytes() for name in ("a", "theirs")] == [b"ours", b"kept"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError) as refused:
        replace_file(tmp_path / "pipe", b"x")
    assert refused.value.filename == str(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_pipe_that_a_person_named_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        read = threads.submit(pipe.read_bytes)
        replace_file(pipe, b"through", named=True)
        assert read.result() == b"through"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_folder_is_never_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        replace_file(tmp_path / "folder", b"x")
    assert refused.value.filename == str(tmp_path / "folder")


def test_a_full_device_is_named(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/full'"):
        replace_file(tmp_path / "full", b"x", named=True)
    assert is_stream(Path("/dev/full"))


def test_a_file_that_fails_half_way_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as file:  # noqa: PT012
        file.write(b"half")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "folder", "number"),
    [
        ("file/below.csv", False, errno.ENOTDIR),
        ("file/deeper/below", True, errno.ENOTDIR),
        ("x" * 256, False, errno.ENAMETOOLONG),
        ("x" * 256, True, errno.ENAMETOOLONG),
        ("folder", False, errno.EISDIR),
        ("file", True, errno.EEXIST),
        ("loop", False, errno.ELOOP),
    ],
)
def test_what_cannot_be_written_is_known_beforehand(tmp_path, place, folder, number):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError) as refused:  # noqa: PT011
        check_writable(tmp_path / place, folder=folder)
    assert refused.value.errno == number
    assert refused.value.filename == str(tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("place", "folder"), [("/proc/a.csv", False), ("/proc/run", True), ("/proc/a/b/c.csv", False)])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc, in which no files can be made")
def test_a_folder_of_the_kernels_own_is_no_place(place, folder):
    with pytest.raises(PermissionError, match=place):
        check_writable(Path(place), folder=folder)


def test_what_can_be_written_is_let_pass_and_left_as_it_is(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.rglob("*"))
    for place, folder in (("file", False), ("a/b/c", False), ("a/b", True), ("folder", True), ("pipe", False)):
        check_writable(tmp_path / place, folder=folder)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_bytes() == b"old"


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


def test_what_is_written_is_on_the_disk_with_its_name(tmp_path, monkeypatch):
    """The file is flushed before it gets its name, and the folder after."""
    flushed = []
    real = os.fsync

    def fsync(descriptor):
        flushed.append((os.path.realpath(f"/proc/self/fd/{descriptor}"), sorted(p.name for p in tmp_path.iterdir())))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(tmp_path / "a", b"one")
    assert flushed == [(str(tmp_path / ".a.partial"), [".a.partial"]), (str(tmp_path), ["a"])]
    move(tmp_path / "a", tmp_path / "b")
    assert flushed[2:] == [(str(tmp_path), ["b"])]
    append_file(tmp_path / "b", b" two")
    assert (tmp_path / "b").read_bytes() == b"one two"
    assert flushed[3:] == [(str(tmp_path / "b"), ["b"])]


def test_a_folder_that_cannot_be_flushed_does_not_undo_the_file(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_json_comes_back_as_it_was(tmp_path):
    value = {"text": "é \udc80 \n", "number": 0.1, "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"number": float("nan")})
    assert read_json(tmp_path / "a.json") == value


def test_lines_are_read_around_damage_and_a_torn_end(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert read_json_lines(path) == ([], {})
    path.write_bytes(b'{"step": 1}\n\nremark\n[1]\n{"other": 2}\n{"step": 2}\n{"step": 3')
    found = read_json_lines(path, lambda line: "step" in line)
    assert found.whole == [{"step": 1}, {"step": 2}]
    assert found.damaged == {2: b"", 3: b"remark", 4: b"[1]", 5: b'{"other": 2}'}
    append_file(path, b"}")
    assert read_json_lines(path).whole[-1] == {"step": 3}


def test_a_lock_is_one_commands_until_it_lets_others_in(tmp_path):
    path = tmp_path / ".lock"
    with locked(path, "busy: wait") as let_others_in:
        with pytest.raises(UsageError, match="busy: wait"), locked(path, "busy: wait"):
            pass
        let_others_in()
        with locked_together(path), pytest.raises(UsageError), locked(path, "busy"):
            pass
    with locked(path, "busy"):
        pass


def test_a_hash_is_of_bytes_or_of_text_in_utf_8(tmp_path):
    (tmp_path / "a").write_bytes("é".encode())
    assert sha256_of("é") == sha256_of("é".encode()) == sha256(tmp_path / "a")
