"""What a run is made from, known by its contents and not by its name.

run.json keeps them under `contents`, each beside the setting that names it: `model`, `prompts`, and `weights` (of each
reward by its key). A model that has moved is still the same model; one that was replaced where it lies is another.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dgpo.models.find import EMBEDDED, TINY, expand
from dgpo.models.folder import INDEX
from dgpo.models.hub import find_cached
from rewards.files import fingerprint, read_json, sha256_of

Contents = Mapping[str, Any]
NAMES = {
    "model": "the base model",
    "prompts": "the training prompts",
    "source.folder": "the recorded images",
    "weights": "the reward weights",
}

OF_TEXTS = ("text_encoder", "tokenizer")
"""What the names of such parts begin with."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def model_contents(name: str) -> str | None:
    """A folder by the files that a pipeline reads of it; a model of the hub, once it was loaded, by its commit,
    which is that of the revision if one is named.

    The cache's own folder of a hub model is that model too. None where there is nothing of that name on this machine.
    """
    return _contents(TINY if name == EMBEDDED else expand(name), _parts)


def text_contents(place: Path | str) -> str | None:
    """What reads the texts of a model, told from others as `model_contents` tells models."""
    return _contents(Path(place), lambda folder: [name for name in _parts(folder) or () if name.startswith(OF_TEXTS)])


def _contents(place: Path, parts: Callable[[Path], list[str] | None]) -> str | None:
    if not place.is_dir():
        found = find_cached(str(place))
        return None if found is None else found.parent.name
    if place.parent.name == "snapshots" and _COMMIT.fullmatch(place.name):
        return place.name
    return fingerprint(place, parts(place))


def prompts_contents(ids: Iterable[str]) -> str:
    """Prompts in their order, by their ids, which are hashes of all that they say."""
    return f"prompts:{sha256_of(' '.join(ids))}"


def changed(there: Contents, here: Contents) -> Iterator[str]:
    """For each thing known on both sides that is not what it was, what it is and how it was known then and is now."""
    for setting in [name for name in NAMES if name in there and name in here]:
        old, new = there[setting], here[setting]
        if not isinstance(old, Mapping) or not isinstance(new, Mapping):
            old, new = {"": old}, {"": new}
        for key in [key for key in new if key in old and old[key] != new[key]]:
            of = f" of {key}" if key else ""
            yield f"{NAMES[setting]}{of} had other contents ({old[key]} then, {new[key]} now)"


def _parts(folder: Path) -> list[str] | None:
    """The index of a diffusers folder and the components it names; None, which is everything, where it names none."""
    try:
        index = read_json(folder / INDEX)
    except (OSError, ValueError):
        return None
    if not isinstance(index, dict):
        return None
    named = [name for name, kind in index.items() if isinstance(kind, list) and kind and kind[0] is not None]
    return [INDEX, *named] if named else None
