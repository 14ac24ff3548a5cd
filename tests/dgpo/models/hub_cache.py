"""Models as the hub's library leaves them in its cache."""

import shutil
from pathlib import Path


def keep(cache: Path, name: str, folder: Path, commit: str, *revisions: str) -> Path:
    """A folder as the snapshot of a commit, which these branches and tags name; returns the snapshot."""
    repository = cache / f"models--{name.replace('/', '--')}"
    for revision in revisions:
        ref = repository / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
    return shutil.copytree(folder, repository / "snapshots" / commit)
