"""A diffusers folder looked over before any library opens it: what is missing, cut off or no such file is said by name.

Only names, sizes and headers are read, so this takes no time and needs no torch.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rewards.errors import SetupError

INDEX = "model_index.json"
WEIGHTS = ("model", "diffusion_pytorch_model")
# Components whose classes are called so have no weights of their own.
WEIGHTLESS = ("Scheduler", "Tokenizer", "Processor", "FeatureExtractor")
LFS_POINTER = b"version https://git-lfs"
LARGEST_HEADER = 100_000_000
AGAIN = "copy or download it again"


def check_folder(folder: Path) -> None:
    """What `model_index.json` names is all there, and whole.

    Raises:
        SetupError: it is not; names the file and what to do.
    """
    for name, kind in read_components(folder).items():
        component = folder / name
        if not component.is_dir():
            raise SetupError(f"{folder} has no folder {name}, which its {INDEX} names ({kind}); {AGAIN}, whole.")
        for path in sorted(component.iterdir()):
            _check_file(path)
        if (component / "config.json").is_file() and not any(word in kind for word in WEIGHTLESS):
            _check_weights(component)


def read_components(folder: Path) -> dict[str, str]:
    """The class of each component that a model has; those it goes without are left out."""
    return {
        name: str(value[1])
        for name, value in read_json(folder / INDEX).items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None and Path(name).name == name
    }


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model.

    Raises:
        SetupError: it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SetupError(f"{path} is not JSON ({reason}); {AGAIN}.") from None
    if not isinstance(value, dict):
        raise SetupError(f"{path} does not hold a JSON object; {AGAIN}.")
    return value


def _check_file(path: Path) -> None:
    if not path.is_file():
        if path.is_symlink():
            raise SetupError(f"{path} leads to a file that is not there; {AGAIN}.")
        return
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise SetupError(
                f"{path} is not the file itself but a pointer to it, which git leaves without its large files: run "
                "`git lfs pull` in the model's folder."
            )
    if path.suffix == ".json" and path.name.endswith(("config.json", ".index.json")):
        read_json(path)
    if path.suffix == ".safetensors":
        _check_tensors(path)


def _check_tensors(path: Path) -> None:
    """A safetensors file is as long as its header says: a length of eight bytes, the header, the tensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise SetupError(f"{path} is cut off or no safetensors file ({size} bytes); {AGAIN}.")
        header = file.read(length)
    try:
        wanted = 8 + length + max((end for end in _ends(json.loads(header))), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise SetupError(f"{path} is damaged: its header cannot be read; {AGAIN}.") from None
    if size != wanted:
        raise SetupError(f"{path} is not whole: {size} bytes, and its header tells of {wanted}; {AGAIN}.")


def _ends(header: Mapping[str, Any]) -> Iterator[int]:
    return (int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__")


def _check_weights(component: Path) -> None:
    """Weights under the names that are loaded, as safetensors."""
    names = [path.name for path in component.iterdir()]
    if any(f"{stem}.safetensors" in names for stem in WEIGHTS):
        return
    for index in (component / f"{stem}.safetensors.index.json" for stem in WEIGHTS):
        if index.is_file():
            _check_shards(index)
            return
    weights = sorted(name for name in names if name.endswith((".safetensors", ".bin", ".ckpt", ".pt", ".msgpack")))
    pickled = [name for name in weights if not name.endswith(".safetensors")]
    variants = {name.split(".")[1] for name in weights if name not in pickled and name.count(".") == 2}
    if variants:
        variant = sorted(variants)[0]
        raise SetupError(
            f"{component} holds its weights as a variant only ({weights[0]}); save the model without one: "
            f'DiffusionPipeline.from_pretrained(DIR, variant="{variant}").save_pretrained(OTHER_DIR).'
        )
    if pickled:
        raise SetupError(
            f"{component} holds its weights as {pickled[0]}, and only safetensors are taken; save the model again with "
            "diffusers: DiffusionPipeline.from_pretrained(DIR).save_pretrained(OTHER_DIR)."
        )
    raise SetupError(
        f"{component} holds no weights ({' or '.join(f'{stem}.safetensors' for stem in WEIGHTS)}); {AGAIN}."
    )


def _check_shards(index: Path) -> None:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise SetupError(f"{index} names no files; {AGAIN}.")
    absent = sorted({str(name) for name in places.values() if not (index.parent / str(name)).is_file()})
    if absent:
        raise SetupError(f"{index} names {', '.join(absent)}, which is not beside it; {AGAIN}.")
