"""Files on disk, in one place for the whole house: written whole or not at all, appended, locked, read, hashed.

What is written is on the disk when the call returns: the file is flushed, and so is the folder that names it.
"""

import errno
import fcntl
import hashlib
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO, NamedTuple

from rewards.errors import SetupError, UsageError

# Network disks keep what they know of a folder for up to a minute.
PATIENCE_S = 60.0
POLL_S = 0.2
# How often a lock that another command holds is asked for again.
_LOCK_POLL_S = 0.1
# A network disk that flushes no folders, or a folder that may be written to but not listed.
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)
# What is written for a trial: a block, which a full disk has no more.
_TRIAL = 4096


def replace_file(path: Path, data: bytes, *, named: bool = False) -> None:
    """Write a file whole or not at all, see `replacing`."""
    with replacing(path, named=named) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, named: bool = False) -> Iterator[IO[bytes]]:
    """A file to write, so that a reader, or a kill at any moment, sees the old content or the new, never a part.

    The mode is the old file's, or follows the umask.

    Args:
        named: a person has named this very file. Then a symbolic link is followed and stays one, and a pipe or a device
            is written to. A file of ours in a folder that somebody else may have prepared leads nowhere: a link there
            is replaced, and what is no file stays what it is.

    Raises:
        OSError: the disk is full, the folder read-only, there is a folder at `path`, and so on; it names the file, and
            nothing is left behind.
    """
    with about(path):
        if named and is_stream(path):
            with path.open("wb") as file:
                yield file
            return
        if named:
            path = Path(os.path.realpath(path))
        elif is_stream(path) and not path.is_symlink():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        partial = path.with_name(f".{path.name[:200]}.partial")
        partial.unlink(missing_ok=True)  # of a killed process, or a link that somebody has laid there
        try:
            with partial.open("xb") as file:
                if path.is_file() and not path.is_symlink():
                    os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Plain values as JSON, whole or not at all; ValueError for a number that is none."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    # Half a surrogate pair, as in the name of a file that is no UTF-8, becomes \udcXX, which JSON reads as what it was.
    replace_file(path, text.encode("utf-8", errors="backslashreplace"))


def append_file(path: Path, data: bytes) -> None:
    """Add to a file with one write; a kill in the middle of it may leave the beginning of `data`."""
    with about(path), path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def move(path: Path, place: Path) -> Path:
    """Give a file or a folder another name beside it; what has that name already is replaced where it is a file."""
    os.replace(path, place)
    flush_folder(place.parent)
    return place


def flush(path: Path) -> None:
    """Bring a file that somebody else has written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where it can be asked to: the files in it are whole either way."""
    try:
        flush(folder)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise


@contextmanager
def locked(path: Path, busy: str, *, patience_s: float = 0.0) -> Iterator[Callable[[], None]]:
    """Hold a lock file until the block or the process ends; gives a function that lets this command's others in.

    Raises:
        UsageError: with the sentence `busy`; another command holds it, and still does after this long.
    """
    with path.open("a") as file:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UsageError(busy) from None
            time.sleep(_LOCK_POLL_S)
        yield lambda: fcntl.flock(file, fcntl.LOCK_SH)


@contextmanager
def locked_together(path: Path) -> Iterator[None]:
    """Hold a lock file together with the process that holds it and has let others in; waits until it has."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def about(path: Path) -> Iterator[None]:
    """An OSError of this block names this file; that of a write to a full disk names none of itself."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def check_writable(path: Path, *, folder: bool = False) -> None:
    """OSError if no file (or folder) can be written at `path`, before any work is done for it; nothing is left there.

    What is absent on the way there would be made, so the place that is tried is the nearest folder above.
    """
    with about(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and stat.S_ISDIR(mode) != folder:
            number = errno.EEXIST if folder else errno.EISDIR
            raise OSError(number, os.strerror(number))
        if is_stream(path):
            return
        place = path if mode is not None and folder else Path(os.path.realpath(path)).parent
        while not place.exists():
            place = place.parent
        try:
            with TemporaryFile(dir=place) as file:
                file.write(bytes(_TRIAL))
        except FileNotFoundError:  # a folder of the kernel's own, as /proc, in which no files can be made
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from None


def is_stream(path: Path) -> bool:
    """Whether it is a pipe or a device: what is written there goes on at once, and can be neither kept nor replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_regular(path: Path | str, most: int | None = None) -> bytes:
    """What a file holds; nothing else is read, since a pipe waits for a writer and a device may never end.

    Raises:
        OSError: there is none, it is not a regular file, it has more than `most` bytes, and so on; its `strerror` says
            what is wrong.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, and at most {most} are read", str(path))
        return file.read()


def open_regular(path: Path | str) -> BinaryIO:
    """A file to be read; OSError for what is not a regular one."""
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (whoever asked closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it holds no JSON, or some that is nested too deep, or it is no regular file.
        OSError: there is none, or it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deep") from None


class JsonLines(NamedTuple):
    """What a file of our own lines holds: the whole ones, and by its number from 1 each that is none."""

    whole: list[dict[str, Any]]
    damaged: dict[int, bytes]


def read_json_lines(path: Path, fits: Callable[[dict[str, Any]], bool] = lambda line: True) -> JsonLines:
    """The lines of a file that we append to; of one that is not there, none.

    A last line without an end, which a killed process leaves, is a line if it is whole, and forgotten otherwise.
    Prompt files and the like, which people write, are read by `rewards.tables.json_rows`, which refuses any bad line.

    Args:
        fits: whether an object is a line as we write it.
    """
    *ended, last = read_regular(path).split(b"\n") if path.exists() else [b""]
    found = JsonLines([], {})
    for number, text in enumerate(ended, start=1):
        line = _parse_line(text)
        if line is None or not fits(line):
            found.damaged[number] = text
        else:
            found.whole.append(line)
    unfinished = _parse_line(last)
    if unfinished is not None and fits(unfinished):
        found.whole.append(unfinished)
    return found


def _parse_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def sha256_of(content: bytes | bytearray | str) -> str:
    """SHA-256 of bytes, or of a text in UTF-8, as hex digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_shared(path: Path, digest: str) -> None:
    """Wait until this machine sees a file as another process of the same command has written it, by its `sha256`.

    Raises:
        SetupError: it does not, though a network disk has had time to show it; the two do not share the folder.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (path.is_file() and sha256(path) == digest):
        if time.monotonic() > deadline:
            raise SetupError(
                f"{socket.gethostname()} does not see in {path.parent.resolve()} what the main process has written"
                f" there ({path.name}). All machines of one command need the same folder: give --output one on a disk"
                " that they share."
            )
        time.sleep(POLL_S)


def fingerprint(folder: Path, parts: Collection[str] | None = None) -> str:
    """Names and contents of a folder's files, as one hash; hidden files are left out, links are followed.

    Args:
        parts: of what lies directly in the folder, only these files and folders count.
    """
    found = [path for path in _files(folder) if parts is None or path.relative_to(folder).parts[0] in parts]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:  # hashing leaves the interpreter to the others
        for path, content in zip(found, readers.map(sha256, found), strict=True):
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode(errors="surrogateescape"))
    return f"contents:{digest.hexdigest()}"


def _files(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Those in a folder and below it, in one order; a folder that is linked into itself is entered once."""
    above |= {os.path.realpath(folder)}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and os.path.realpath(path) not in above:
            yield from _files(path, above)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
