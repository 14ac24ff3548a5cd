"""Read what is published of a network, and load it without a single key guessed, dropped or left random."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from rewards.errors import SetupError
from rewards.files import read_json

_SHOWN = 10


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors, .pt, .pth or .bin file, on the CPU and mapped, so that nothing is read yet.

    Only tensors are unpickled. Anything but a plain state dict (a {"state_dict": ...} around it, say) comes back as it
    is; the caller knows its own file.

    Raises:
        SetupError: the file is cut short, or no checkpoint at all.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return _unpickle(path)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SetupError(f"{path} cannot be read as a checkpoint ({reason}); delete it and fetch it again.") from error


def read_shards(index: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint cut into several files, mapped like those of one.

    Args:
        index: the published *.index.json, beside its shards; or the one file of a checkpoint that is not cut.

    Raises:
        SetupError: a shard is missing, or does not hold exactly what the index says.
    """
    if not _is_index(index):
        return read_state(index)
    state: dict[str, torch.Tensor] = {}
    for name, keys in _read_index(index).items():
        shard = read_state(index.parent / name)
        problems = [
            *_describe("lacks", [key for key in keys if key not in shard]),
            *_describe("also holds", [key for key in shard if key not in keys]),
        ]
        if problems:
            raise SetupError(
                f"{index.parent / name} is not the file that {index.name} tells of: it {'; it '.join(problems)}. "
                "Take the index and all of its files from one place."
            )
        state |= shard
    return state


def list_shards(index: Path) -> dict[str, Path]:
    """The files that `read_shards` reads besides the index, by name.

    Raises:
        SetupError: one is missing, or the index names none.
    """
    return {name: index.parent / name for name in _read_index(index)} if _is_index(index) else {index.name: index}


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object that is published beside a checkpoint.

    Raises:
        SetupError: the file holds something else.
    """
    try:
        config = read_json(path)
    except ValueError as error:
        raise SetupError(f"{path} is not JSON ({error}); delete it and fetch it again.") from error
    if not isinstance(config, dict):
        raise SetupError(f"{path} does not hold a JSON object; delete it and fetch it again.")
    return config


def load_strictly(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], source: Path, ignore: Collection[str] = ()
) -> None:
    """Give the network exactly the tensors of `state`, and set it to inference: eval mode, no gradients.

    The network may stand on the meta device; the tensors are taken over as they are, dtype included, not copied.

    Args:
        source: the file they come from, for the message.
        ignore: keys that may be in `state`, or in the network, and mean nothing.

    Raises:
        SetupError: keys that are missing or unexpected, or of another shape; names them.
    """
    wanted = {key: tensor for key, tensor in network.state_dict().items() if key not in ignore}
    given = {key: tensor for key, tensor in state.items() if key not in ignore}
    problems = [
        *_describe("lacks", [key for key in wanted if key not in given]),
        *_describe("has unexpected", [key for key in given if key not in wanted]),
        *_describe("has another shape of", _misshapen(wanted, given)),
    ]
    if problems:
        raise SetupError(
            f"{source} does not fit {type(network).__name__}: it {'; it '.join(problems)}. "
            "Take the file and its configuration from one place."
        )
    network.load_state_dict(given, strict=not ignore, assign=True)
    network.eval().requires_grad_(False)


def _is_index(path: Path) -> bool:
    return path.suffix == ".json"


def _read_index(index: Path) -> dict[str, set[str]]:
    """The keys of each file that an index names; all of the files are there, beside it."""
    places = read_config(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(_is_plain_name(name) for name in places.values()):
        raise SetupError(f"{index} names no files beside it in its weight_map; delete it and fetch it again.")
    shards: dict[str, set[str]] = {}
    for key, name in sorted(places.items(), key=lambda item: item[1]):
        shards.setdefault(name, set()).add(key)
    absent = [name for name in shards if not (index.parent / name).is_file()]
    if absent:
        raise SetupError(f"{index} names files that are not beside it: {', '.join(absent)}; fetch them too.")
    return shards


def _is_plain_name(name: object) -> bool:
    """Whether it can only be a file in the same folder."""
    return isinstance(name, str) and Path(name).name == name


def _unpickle(path: Path) -> dict[str, torch.Tensor]:
    """Mapped where the file allows it; those saved before torch 1.6 have to be read as a whole."""
    with path.open("rb") as file:
        mapped = file.read(4) == b"PK\x03\x04"
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _misshapen(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    both = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    return [f"{key} ({list(given[key].shape)} instead of {list(wanted[key].shape)})" for key in both]


def _describe(what: str, keys: list[str]) -> list[str]:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return [f"{what} {', '.join(keys[:_SHOWN])}{more}"] if keys else []
