"""Find a reward's weights, in the folder given by --weights or in the local cache, and tell whether they are whole.

Nothing is downloaded here behind anybody's back; `dgpo rewards fetch NAME` does that, and says what and how much.
The cache is the model hub's own (HF_HOME, HF_HUB_CACHE), in its own layout, at the commit that a card names; files that
are published elsewhere lie in its subfolder dgpo/, in a folder named after their address.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rewards import files
from rewards.card import Card, WeightFile
from rewards.errors import SetupError, WeightsMissing

_GIT_SHA1, _SHA256 = 40, 64


@dataclass(frozen=True)
class Comparison:
    """A file against what was published: `same` is None where nobody has said what it should be."""

    same: bool | None
    words: str


def locate(card: Card, folder: str | None) -> dict[str, Path]:
    """Each of the card's files that is on this machine, by its `path` in the layout.

    Raises:
        WeightsMissing: a required file is not in the cache; names it, where it was looked for, and the command that
            gets it.
        SetupError: a required file is missing from the given folder, or several can be meant.
    """
    if card.files and folder is not None and not Path(folder).is_dir():
        raise SetupError(f"There is no folder {folder}, which --weights gives for {card.name}.{_advise(card, folder)}")
    found: dict[str, Path] = {}
    missing: list[str] = []
    absent: list[WeightFile] = []
    for file in card.files:
        places = _places(card, file, folder)
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            found[file.path] = path
        elif file.required:
            size = "" if file.size is None else f"{format_size(file.size)}; "
            missing.append(f"{file.path} ({size}looked for {', '.join(map(str, places))})")
            absent.append(file)
    if missing:
        message = f"{card.key} has no {'; no '.join(missing)}.{_advise(card, folder)}"
        if folder is not None:
            raise SetupError(message)
        raise WeightsMissing(message, [file.path for file in absent], _size_of(card, absent))
    return found


def cache_place(file: WeightFile) -> Path | None:
    """Where a file lies in the local cache once it was fetched; None for one that is not published anywhere."""
    if file.repo:
        return hub_folder(file) / "snapshots" / file.revision / file.source
    if file.url:
        return _cache() / "dgpo" / files.sha256_of(file.url)[:16] / Path(file.path).name
    return None


def hub_folder(file: WeightFile) -> Path:
    """The cache's folder of the file's repository."""
    return _cache() / f"models--{file.repo.replace('/', '--')}"


def tell_stand(card: Card) -> str:
    """In a few words where a reward's weights stand on this machine; looks at the cache's names only."""
    if not card.files:
        return "in the wheel" if "in the wheel" in card.weights else "none needed" if card.weights == "none" else "own"
    absent = [file for file in card.files if file.required and not _is_cached(file)]
    if not absent:
        return "here"
    return f"fetch {_size_of(card, absent)}".strip()


def _size_of(card: Card, absent: Sequence[WeightFile]) -> str:
    """What there is to fetch, in words; nothing where nobody has said."""
    known = card.disk_size or sum(file.size or 0 for file in absent)
    return format_size(known) if known else ""


def compare(path: Path, file: WeightFile, stated: str = "") -> Comparison:
    """Size and hash of a file on this machine against the card's, or else against the hash that the hub stated.

    Args:
        stated: SHA-256 (or its beginning) or git's SHA-1; the card's SHA-256 goes before it. Without either, a file in
            the hub's cache is held against the hash that the hub gave it there.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return Comparison(False, f"{size} bytes instead of {file.size}")
    wanted = file.sha256 or stated or _stated_in_cache(path)
    if not wanted:
        return Comparison(None, f"nobody has published a hash; sha256 {digest(path, 'sha256')}")
    kind = "sha1" if len(wanted) == _GIT_SHA1 else "sha256"
    got = digest(path, kind)
    if not got.startswith(wanted):
        return Comparison(False, f"{kind} {got} instead of {wanted}")
    known = wanted if len(wanted) == len(got) else f"{wanted}..."
    return Comparison(True, f"{kind} {known}" + ("" if file.sha256 else " (as the hub states it)"))


def digest(path: Path, kind: str) -> str:
    """SHA-256 of a file, or the SHA-1 by which git and the hub name its content."""
    if kind == "sha256":
        return files.sha256(path)
    with path.open("rb") as file:
        start = f"blob {path.stat().st_size}\0".encode()
        return hashlib.file_digest(file, lambda: hashlib.sha1(start, usedforsecurity=False)).hexdigest()


def is_hash(text: str) -> bool:
    """Whether this can be a SHA-256 or one of git's SHA-1, as the hub names contents."""
    return len(text) in (_GIT_SHA1, _SHA256) and not text.strip("0123456789abcdef")


@cache
def sha256(path: Path) -> str:
    """Of a file that does not change while this process runs; read once."""
    return digest(path, "sha256")


def checksums(files: Mapping[str, Path]) -> str:
    """Every file with its sha256, for the record of a run."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:  # hashing leaves the interpreter to the others
        found = list(readers.map(sha256, files.values()))
    return ", ".join(f"{name} sha256:{content}" for name, content in zip(files, found, strict=True))


def format_size(size: float) -> str:
    """Bytes in decimal units, as the hub counts them.

    >>> format_size(485), format_size(3714759), format_size(3944552236)
    ('485 B', '3.7 MB', '3.9 GB')
    """
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= 0.99995 * bytes_each:
            return f"{size / bytes_each:.1f} {unit}"
    return f"{size:.0f} B"


def _advise(card: Card, folder: str | None) -> str:
    if folder is not None:
        return f" `dgpo rewards show {card.name}` prints how the folder is laid out."
    size = f" (about {format_size(card.disk_size)})" if card.disk_size else ""
    return (
        f" Get it{size} with: dgpo rewards fetch {card.name}; or, where there is no network, give a folder with "
        f"--weights {card.name}=DIR."
    )


def _places(card: Card, file: WeightFile, folder: str | None) -> list[Path]:
    if folder is not None:
        return [_match(card, Path(folder), name) for name in (file.path, *file.aliases)]
    place = cache_place(file)
    return [place] if place is not None else []


def _match(card: Card, folder: Path, name: str) -> Path:
    """The one file that a name with a * stands for, or the place of a plain name."""
    found = sorted(folder.glob(name)) if "*" in name else []
    if len(found) > 1:
        raise SetupError(
            f"{folder} holds {', '.join(path.name for path in found)}, and {card.name} needs a single {name} there; "
            f"take the others out.{_advise(card, str(folder))}"
        )
    return found[0] if found else folder / name


def _is_cached(file: WeightFile) -> bool:
    place = cache_place(file)
    return place is not None and place.is_file()


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _stated_in_cache(path: Path) -> str:
    """The hub's cache names a content by its hash and links to it from the snapshot."""
    if not path.is_symlink():
        return ""
    name = path.readlink().name
    return name if is_hash(name) else ""
