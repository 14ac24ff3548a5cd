"""What a model's name means: the embedded model, a local folder, or a hub id. Nothing is loaded, no hub is asked."""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import unquote

from dgpo.models.folder import INDEX, check_folder
from rewards.errors import SetupError, UsageError, suggestion

EMBEDDED = "tiny"
TINY = Path(__file__).parent / "tiny" / "weights"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
REVISION = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*")
_HUB_PAGE = re.compile(
    rf"https?://(?:[^/@]*@)?(?:www\.)?(?:huggingface\.co|hf\.co)/({HUB_ID.pattern})(?:/(?:tree|commit)/([^/?#]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHT_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
FILES = (*WEIGHT_FILES, ".json", ".yaml", ".yml")


class HubId(NamedTuple):
    """A repository of the hub, and the branch, tag or commit that was named with it; None is what it is now."""

    repository: str
    revision: str | None = None

    @classmethod
    def of(cls, name: str) -> Self:
        """OWNER/NAME or OWNER/NAME@REVISION, taken apart.

        >>> HubId.of("owner/name@refs/pr/1")
        HubId(repository='owner/name', revision='refs/pr/1')
        """
        repository, _, revision = name.partition("@")
        return cls(repository, revision or None)

    @property
    def short(self) -> str:
        """What folders and files are called after it, without the owner; a commit by its first eight letters.

        >>> HubId.of("owner/name@refs/pr/1").short
        'name@refs-pr-1'
        """
        name, revision = self.repository.rpartition("/")[2], self.revision
        if revision is None:
            return name
        return f"{name}@{revision[:8] if _COMMIT.fullmatch(revision) else revision.replace('/', '-')}"


def find_model(name: str) -> Path | str:
    """The folder of a model, looked over, or its hub id (with its revision), which nobody has asked for yet.

    A path is never taken for a hub id: neither one that is written as a path, nor one whose first part is a folder.

    Raises:
        UsageError: the name is neither `tiny`, nor a folder with a `model_index.json`, nor of the form
            OWNER/NAME[@REVISION].
        SetupError: the folder lacks files, or they are damaged.
    """
    if name == EMBEDDED and not TINY.is_dir():
        raise SetupError(f"The embedded model is missing from {TINY}; install dgpo again.")
    path = TINY if name == EMBEDDED else expand(name)
    if name and os.path.isdir(path):
        if not (path / INDEX).is_file():
            raise UsageError(f"{path} is no diffusers folder: it holds no {INDEX}.")
        check_folder(path)
        return path
    if os.path.isfile(path):
        raise UsageError(_explain_file(path))
    if "://" in name:
        page = _HUB_PAGE.match(name)
        hint = f' That page\'s model is "{_name_of_page(page)}".' if page else ""
        raise UsageError(f"{name} is an address, and a model of the hub is named OWNER/NAME.{hint}")
    if name.startswith(f"{EMBEDDED}@"):
        raise UsageError(f"There is no model {name}: {EMBEDDED} is the embedded model, which has no revisions.")
    check_revision(name)
    if _looks_like_a_path(name):
        raise UsageError(f"There is no model folder {name} (looked for in {path.absolute().parent}).")
    owner = name.split("/")[0]
    if owner != name and os.path.isdir(owner):
        raise UsageError(
            f"There is no model folder {name}. The hub was not asked for it, since {owner} is a folder here; for a "
            "model of the hub with that name, start in another folder."
        )
    if not is_hub_id(name):
        hint = suggestion(name, [EMBEDDED])
        raise UsageError(f'There is no model "{name}": neither a folder nor a hub id (OWNER/NAME[@REVISION]).{hint}')
    return name


def is_hub_id(name: str) -> bool:
    """Whether a name is of the form OWNER/NAME or OWNER/NAME@REVISION."""
    repository, at, revision = name.partition("@")
    return bool(HUB_ID.fullmatch(repository) and (not at or REVISION.fullmatch(revision)))


def check_revision(name: str) -> None:
    """UsageError for what stands behind an @ in the name of something that is not here, and can be no revision."""
    folder, at, _ = name.rpartition("@")
    if at and folder and os.path.isdir(expand(folder)):
        raise UsageError(
            f"There is no folder {name}. {folder} is one, and has no revisions: only what is on the hub has."
        )
    repository, at, revision = name.partition("@")
    if not at or not HUB_ID.fullmatch(repository) or REVISION.fullmatch(revision):
        return
    if not revision:
        raise UsageError(f"{name} names no revision; write a branch, tag or commit behind the @, or leave it out.")
    raise UsageError(f'"{revision}", behind the @ of {name}, is no name that a branch, tag or commit can have.')


def expand(name: str) -> Path:
    """A path with the home folder for `~`, which shells leave as it is within quotes."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _name_of_page(page: re.Match[str]) -> str:
    revision = unquote(page[2] or "main")
    return page[1] if revision == "main" else f"{page[1]}@{revision}"


def _looks_like_a_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or (name.count("/") > 1 and not is_hub_id(name))
        or name.endswith("/")
        or Path(name).suffix.lower() in FILES
    )


def _explain_file(path: Path) -> str:
    """A single file is no model here, however it was published."""
    if path.suffix.lower() not in WEIGHT_FILES:
        return f"{path} is a file, and a model is a folder (with a {INDEX})."
    refusal = f"{path} is a single file, and a model is taken as a diffusers folder only."
    if path.suffix.lower() != ".safetensors":
        return f"{refusal} `dgpo models convert` makes one of a .safetensors file: get the model as one."
    return (
        f"{refusal} Make one of it: dgpo models convert {shlex.quote(str(path))} --like MODEL --output DIR, with a "
        "folder or hub id of its family and size as MODEL; a LoRA alone is no model."
    )
