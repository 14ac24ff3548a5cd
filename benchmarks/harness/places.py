"""Where files lie: on a disk, by a path, or behind a URL that fsspec opens (s3://, gs://, hf://, https://, memory://).

A file's name is a text: an absolute path, or the URL as it was given. Whatever a far file system raises becomes an
OSError, so that what cannot be read is a reason and not the end.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EFBIG, EIO
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from rewards.errors import SetupError, UsageError, load_extra
from rewards.files import open_regular, read_regular
from rewards.secrets import hide_secrets

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_PASSWORD = re.compile(_URL.pattern + r"[^/@]*:[^/]*@")


def is_url(name: str) -> bool:
    return bool(_URL.match(name))


def full_name(name: str) -> str:
    """What a file is called in scores.csv: its absolute path, or its URL; UsageError for one with a password in it."""
    if _PASSWORD.match(name):
        raise UsageError(
            f"{hide_secrets(name)}: there is a password in this address, and addresses are written beside scores; give "
            "it by the environment variables of its file system."
        )
    return name if is_url(name) else os.path.abspath(name)


def ending(name: str) -> str:
    """The lower-case ending of a file's name.

    >>> ending("s3://shop/a.b/CAT.PNG")
    '.png'
    """
    return PurePosixPath(name).suffix.lower()


def folder_of(name: str) -> str:
    return posixpath.dirname(name)


def join(folder: str, name: str) -> str:
    """A name told relative to a folder.

    >>> join("s3://shop/cats", "/a/1.png"), join("/cats", "/dogs/1.png")
    ('s3://shop/cats/a/1.png', '/dogs/1.png')
    """
    if is_url(name):
        return name
    return f"{folder}/{name.lstrip('/')}" if is_url(folder) else posixpath.join(folder, name)


def is_folder(name: str) -> bool:
    if not is_url(name):
        return os.path.isdir(name)
    system, path = _far(name)
    with _reaching(name):
        return system.isdir(path)


def exists(name: str) -> bool:
    if not is_url(name):
        return os.path.exists(name)
    system, path = _far(name)
    with _reaching(name):
        return system.exists(path)


def list_folder(name: str) -> list[str]:
    """The files and folders that lie directly in a folder, in the order of their names."""
    if not is_url(name):
        return [os.path.join(name, one) for one in sorted(os.listdir(name))]
    system, path = _far(name)
    with _reaching(name):
        found = sorted(PurePosixPath(one).name for one in system.ls(path, detail=False))
    return [posixpath.join(name, one) for one in found]


def open_file(name: str) -> BinaryIO:
    """A regular file, to be read from anywhere in it; an OSError where there is none."""
    if is_url(name):
        system, path = _far(name)
        with _as_oserror(name):
            return cast(BinaryIO, _Far(name, system.open(path, "rb")))
    return open_regular(name)


def read_file(name: str, most: int) -> bytes:
    """All that a file holds, if it is not more than `most` bytes; an OSError otherwise."""
    if not is_url(name):
        return read_regular(name, most)
    with open_file(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(EFBIG, f"it has more than the {most} bytes that are read", name)
    return data


class _Far(io.BufferedIOBase):
    """A file of fsspec, whose troubles are OSErrors."""

    def __init__(self, name: str, file: Any) -> None:
        self._name, self._file = name, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        with _as_oserror(self._name):
            return self._file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        with _as_oserror(self._name):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _far(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path there.

    Raises:
        UsageError: fsspec knows no such kind.
        SetupError: its package is not installed.
    """
    fsspec = load_extra("fsspec", "tables")
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise SetupError(f"{hide_secrets(url)}: this kind of address needs one more package ({error}).") from None
    except ValueError as error:
        raise UsageError(f"{hide_secrets(url)}: {str(error).rstrip('.')}.") from None


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """Sources are looked for before anything is scored, so a place out of reach is the end, as a SetupError."""
    try:
        with _as_oserror(name):
            yield
    except OSError as error:
        raise SetupError(f"{hide_secrets(name)}: out of reach ({error.strerror or error}).") from error


@contextmanager
def _as_oserror(name: str) -> Iterator[None]:
    """Each file system has errors of its own kinds: those of a client library for S3, for instance, are no OSErrors."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(EIO, f"{type(error).__name__}: {hide_secrets(str(error))[:200]}", name) from error
