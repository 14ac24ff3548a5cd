"""Files on disk: written whole or not at all, read only where they are files, hashed by content."""

import errno
import hashlib
import os
import stat
from pathlib import Path

from rewards.errors import UsageError


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old content or the new, never a part.

    A symbolic link stays one: the file it leads to is replaced. The mode is the old file's, or follows the umask.

    Raises:
        UsageError: there is something at `path` that is no regular file (a device, a pipe, a folder), whose place a
            rename would take.
        OSError: the disk is full, the folder read-only, and so on; nothing is left behind.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is {_kind(path)}, not a file that can be written; choose another place.")
    partial = path.with_name(f".{path.name[:200]}.partial")
    try:
        with partial.open("wb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_regular(path: Path, most: int | None = None) -> bytes:
    """What a file holds; nothing else is read, since a pipe waits for a writer and a device may never end.

    Raises:
        OSError: there is none, it is not a regular file, it has more than `most` bytes, and so on; its `strerror` says
            what is wrong.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if most is not None and facts.st_size > most:
            raise OSError(errno.EFBIG, f"it has {facts.st_size} bytes, and at most {most} are read", str(path))
        return file.read()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(folder: Path) -> str:
    """Names and contents of all files of a folder, as one hash; hidden files are left out."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name.as_posix()} {sha256(path)}\n".encode(errors="surrogateescape"))
    return f"files:{digest.hexdigest()}"


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "a pipe" if path.is_fifo() else "a socket" if path.is_socket() else "a device"
