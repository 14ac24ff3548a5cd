"""What a model's name means: the embedded model, a local folder, or a hub id. Nothing is loaded, no hub is asked."""

import os
import re
import shlex
from pathlib import Path

from dgpo.models.folder import INDEX, check_folder
from rewards.errors import SetupError, UsageError, suggestion

EMBEDDED = "tiny"
TINY = Path(__file__).parent / "tiny" / "weights"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_PAGE = re.compile(rf"https?://(?:[^/@]*@)?(?:www\.)?(?:huggingface\.co|hf\.co)/({HUB_ID.pattern})")
WEIGHT_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
FILES = (*WEIGHT_FILES, ".json", ".yaml", ".yml")


def find_model(name: str) -> Path | str:
    """The folder of a model, looked over, or its hub id, which nobody has asked for yet.

    A path is never taken for a hub id: neither one that is written as a path, nor one whose first part is a folder.

    Raises:
        UsageError: the name is neither `tiny`, nor a folder with a `model_index.json`, nor of the form OWNER/NAME.
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
        hint = f' That page\'s model is "{page[1]}".' if page else ""
        raise UsageError(f"{name} is an address, and a model of the hub is named OWNER/NAME.{hint}")
    if _looks_like_a_path(name):
        raise UsageError(f"There is no model folder {name} (looked for in {path.absolute().parent}).")
    owner = name.split("/")[0]
    if owner != name and os.path.isdir(owner):
        raise UsageError(
            f"There is no model folder {name}. The hub was not asked for it, since {owner} is a folder here; for a "
            "model of the hub with that name, start in another folder."
        )
    if not HUB_ID.fullmatch(name):
        hint = suggestion(name, [EMBEDDED])
        raise UsageError(f'There is no model "{name}": neither a folder nor a hub id (OWNER/NAME).{hint}')
    return name


def expand(name: str) -> Path:
    """A path with the home folder for `~`, which shells leave as it is within quotes."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _looks_like_a_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or name.count("/") > 1
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
