"""Read what is published of a network, and load it without a single key guessed, dropped or left random."""

import json
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from rewards.errors import SetupError

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


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object that is published beside a checkpoint.

    Raises:
        SetupError: the file holds something else.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
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
