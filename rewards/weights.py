"""Find the weights of a reward: in the folder given by --weights, or in the local cache of the model hub.

Nothing is downloaded here behind anybody's back; `dgpo rewards fetch NAME` does that, and says what and how much.
"""

import hashlib
from functools import cache
from pathlib import Path

from rewards.card import Card, WeightFile
from rewards.errors import SetupError


def locate(card: Card, folder: str | None) -> dict[str, Path]:
    """Each of the card's files that is on this machine, by its `path` in the layout.

    Raises:
        SetupError: a required file is missing; names it, where it was looked for, and the command that gets it.
    """
    found: dict[str, Path] = {}
    missing: list[str] = []
    for file in card.files:
        places = _places(file, folder)
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            found[file.path] = path
        elif file.required:
            missing.append(f"{file.path} (looked for {', '.join(map(str, places))})")
    if missing:
        advice = (
            f"`dgpo rewards show {card.name}` prints how the folder is laid out"
            if folder is not None
            else f"get it with: dgpo rewards fetch {card.name}"
        )
        raise SetupError(f"{card.key} has no {'; no '.join(missing)}; {advice}")
    return found


@cache
def sha256(path: Path) -> str:
    """Of a file that does not change while this process runs; read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(files: dict[str, Path]) -> str:
    """Every file with its sha256, for the record of a run."""
    return ", ".join(f"{name} sha256:{sha256(path)}" for name, path in files.items())


def _places(file: WeightFile, folder: str | None) -> list[Path]:
    if folder is not None:
        return [Path(folder) / name for name in (file.path, *file.aliases)]
    return [_cache_place(file)] if file.repo else []


def _cache_place(file: WeightFile) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    repo = repo_folder_name(repo_id=file.repo, repo_type="model")
    return Path(HF_HUB_CACHE) / repo / "snapshots" / file.revision / file.source
