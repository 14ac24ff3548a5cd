"""The picture of a published score: from a folder, the cache or its address; another file of its name is refused."""

from pathlib import Path

from rewards.card import Example, WeightFile
from rewards.errors import SetupError
from rewards.weights.folder import cache_place, compare


def find_picture(example: Example, folder: Path | None) -> Path:
    """The published picture: from the folder, else from the cache, else downloaded into it.

    Raises:
        SetupError: it is not in the folder, is another picture, or cannot be downloaded.
    """
    file = WeightFile(example.picture, url=example.url, sha256=example.sha256)
    if folder is not None:
        return _take(file, folder / example.picture)
    place = cache_place(file)
    if place is None or not place.is_file():
        from rewards.weights.download import download, look_up

        remote = look_up(file)
        download(remote, lambda done: None)
        place = remote.place
    return _take(file, place)


def _take(file: WeightFile, path: Path) -> Path:
    if not path.is_file():
        raise SetupError(f"{path.parent} has no {file.path}; it is published at {file.url}")
    comparison = compare(path, file)
    if comparison.same is False:
        raise SetupError(f"{path} is not the published picture ({comparison.words}); it is at {file.url}")
    return path
