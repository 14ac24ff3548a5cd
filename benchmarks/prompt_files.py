"""Prompt files that others publish: found in a folder, or downloaded once from a pinned commit, and always verified.

None of them is part of this project. A file is looked for in the folder that --data or DGPO_DATA_DIR names, under its
flat name or its path in the source repository; then in the cache, which is the model hub's (HF_HUB_CACHE, HF_HOME),
subfolder dgpo/, where fetched weights lie too; and then it is downloaded there, which HF_HUB_OFFLINE forbids.
DGPO_PROMPTS_URL names a mirror of raw.githubusercontent.com.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rewards.card import WeightFile
from rewards.errors import SetupError, UsageError
from rewards.files import replace_file
from rewards.weights.folder import cache_place, digest

DATA_VARIABLE = "DGPO_DATA_DIR"
MIRROR_VARIABLE = "DGPO_PROMPTS_URL"
_HOST = "https://raw.githubusercontent.com"
_REPOSITORY, _COMMIT = "NVlabs/DiffusionNFT", "24af5554898d85e93efa492f42b5e9cdf4156e9b"

Announce = Callable[[str], None]


@dataclass(frozen=True)
class PromptFile:
    """One published file: `path` in the source repository, `name` in a flat folder, and what it must contain.

    Without a `sha256`, which nobody has stated, the first download's is recorded beside it and holds from then on.
    """

    name: str
    path: str
    sha256: str | None
    size: int | None = None

    @property
    def source(self) -> str:
        return f"{self.path} of github.com/{_REPOSITORY} at {_COMMIT}"

    @property
    def url(self) -> str:
        """Where it is published; a mirror has the same path under another address."""
        return f"{_HOST}/{_REPOSITORY}/{_COMMIT}/{self.path}"

    @property
    def place(self) -> Path:
        """Where it lies in the cache, wherever it was fetched from."""
        place = cache_place(WeightFile(self.name, url=self.url))
        assert place is not None, "every file with an address has a place"
        return place

    @property
    def record(self) -> Path:
        """Beside it in the cache, the hash of the first download."""
        return self.place.with_name(f"{self.name}.sha256")


DRAWBENCH = PromptFile(
    "drawbench_test.txt",
    "dataset/drawbench/test.txt",
    "9006b98feabb94b28a2bc0c88de42fd4f31a9ec3c2a19e308a02c5385b7172f0",
    65_164,
)
OCR = PromptFile(
    "ocr_test.txt",
    "dataset/ocr/test.txt",
    "4dd8caf3ab6ade73bd376c7d14c6ca49b6eacfb1bd321e22c40714ae4a98d4dc",
    217_565,
)
PICKSCORE = PromptFile(
    "pickscore_test.txt",
    "dataset/pickscore/test.txt",
    "d75c025fa451866e70f7e36243f7cdd93095523cb51f5f9651f2ce3236d20262",
    239_891,
)
# The lists that the published models were trained on, by reward.
TRAINING = {
    "ocr": PromptFile("ocr_train.txt", "dataset/ocr/train.txt", None),
    "pickscore": PromptFile(
        "pickscore_train.txt",
        "dataset/pickscore/train.txt",
        "2f425adcbb9a6d0feee7c6c448e1cb83a1f71deca9434b803907e2578eca837f",
    ),
}


def get_file(file: PromptFile, data_dir: Path | None, announce: Announce) -> Path:
    """The verified file, downloaded if it is nowhere on this machine; `announce` hears of that beforehand.

    Raises:
        UsageError: the folder that was named does not exist, or holds other content under this name.
        SetupError: it is not here and cannot be downloaded, or what came is not what was published.
    """
    return find_file(file, data_dir) or _fetch(file, data_dir, announce)


def would_fetch(file: PromptFile, data_dir: Path | None) -> bool:
    """Whether `get_file` would download it; asks nobody.

    Raises:
        UsageError, SetupError: as `find_file` does; or a download is forbidden here.
    """
    if find_file(file, data_dir) is not None:
        return False
    _refuse_offline(file, data_dir)
    return True


def describe_source(file: PromptFile, path: Path) -> str:
    """Where the prompts of a found file come from: the published file only if the content is known to be its."""
    expected = _expected(file)
    if expected is not None and digest(path, "sha256") == expected:
        return file.source
    return f"your own file {path.resolve()} (that it is {file.source} was not checked: nobody states what that holds)"


def find_file(file: PromptFile, data_dir: Path | None) -> Path | None:
    """The verified file where it is on this machine; a damaged copy in the cache counts as none.

    Raises:
        UsageError: as `get_file` does.
        SetupError: a file whose hash nobody states is no longer what the first download brought.
    """
    return _find_in_folder(file, data_dir) or _find_in_cache(file)


def _find_in_folder(file: PromptFile, data_dir: Path | None) -> Path | None:
    folder = _data_folder(data_dir)
    if folder is None:
        return None
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}, which --data or {DATA_VARIABLE} names.")
    path = next((folder / name for name in (file.name, file.path) if (folder / name).is_file()), None)
    if path is not None and file.sha256 and (found := digest(path, "sha256")) != file.sha256:
        raise UsageError(
            f"{path} is not the published file: its SHA-256 is {found}, and {file.sha256} was expected. Get it again"
            f" ({file.source}), or give it another name and use it as a prompt file of your own."
        )
    return path


def _find_in_cache(file: PromptFile) -> Path | None:
    if not file.place.is_file():
        return None
    found = digest(file.place, "sha256")
    if file.sha256:
        return file.place if found == file.sha256 else None
    if file.record.is_file() and file.record.read_text().split()[:1] != [found]:
        raise SetupError(
            f"{file.place} has changed since it was first downloaded: its SHA-256 is {found}, and {file.record} says "
            f"otherwise. Delete the former to fetch it again, and both to accept whatever comes."
        )
    return file.place if file.record.is_file() else None


def _refuse_offline(file: PromptFile, data_dir: Path | None) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise SetupError(_explain(file, data_dir, "HF_HUB_OFFLINE is set; unset it to fetch."))


def _fetch(file: PromptFile, data_dir: Path | None, announce: Announce) -> Path:
    from rewards.weights.download import download, look_up

    _refuse_offline(file, data_dir)
    mirror = os.environ.get(MIRROR_VARIABLE) or _HOST
    url = mirror.rstrip("/") + file.url.removeprefix(_HOST)
    announce(f"fetching {url} into {file.place.parent}, once")
    try:
        remote = look_up(WeightFile(file.name, url=url, size=file.size, sha256=_expected(file)), advice="")
        lock = file.place.with_name(f"{file.name}.lock")
        download(replace(remote, place=file.place, content=file.place, lock=lock), lambda done: None)
    except SetupError as error:
        raise SetupError(_explain(file, data_dir, str(error).strip())) from error
    if not file.sha256:
        _record(file, announce)
    return file.place


def _expected(file: PromptFile) -> str | None:
    """The published hash, or else that of the first download."""
    return file.sha256 or (file.record.read_text().split()[0] if file.record.is_file() else None)


def _record(file: PromptFile, announce: Announce) -> None:
    if file.record.is_file():
        return
    found = digest(file.place, "sha256")
    replace_file(file.record, f"{found}  {file.name}\n".encode())
    announce(
        f"{file.name}: nobody states its hash, so this content holds from now on: SHA-256 {found} (kept in "
        f"{file.record})"
    )


def _explain(file: PromptFile, data_dir: Path | None, reason: str) -> str:
    folder = _data_folder(data_dir)
    nor = f" nor in {folder}" if folder else ""
    known = f", SHA-256 {file.sha256}" if file.sha256 else ""
    return (
        f"{file.name} is not in the cache{nor}, and was not fetched: {reason} Without a connection, "
        f"get {file.url}{known} elsewhere, and put it here as {file.place}; or into a folder "
        f"of prompt files as {file.name}, and name that with --data or {DATA_VARIABLE}."
    )


def _data_folder(data_dir: Path | None) -> Path | None:
    named = os.environ.get(DATA_VARIABLE)
    return data_dir or (Path(named) if named else None)
