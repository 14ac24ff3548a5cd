"""A LoRA made by anybody, put on a loaded pipeline: files of diffusers and PEFT, and others that diffusers converts.

Only safetensors are read. What does not fit the model as a whole is refused: half of a LoRA is another LoRA.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from dgpo.models.find import check_revision, is_hub_id
from dgpo.models.folder import read_json
from dgpo.models.hub import Kind, fetch_file
from dgpo.models.pretrained import FAULTS, overheard
from rewards.errors import UsageError
from rewards.files import sha256

FILE = "pytorch_lora_weights.safetensors"
PEFT = "base_model.model."
"""What stands before the layers' names in a file that PEFT itself wrote."""
PEFT_FILE, PEFT_SETTINGS = "adapter_model.safetensors", "adapter_config.json"
"""As PEFT names its own, one beside the other."""
SUFFIX = ".safetensors"
KIND = Kind(
    "LoRA",
    f"or give a local {SUFFIX} file.",
    f"has no such file of a LoRA ({FILE}, where none is named); name one that it has, as OWNER/NAME/FILE",
)
IN_A_REPOSITORY = re.compile(rf"([^/@]+/[^/@]+(?:@(?:refs/[^/]+/[^/]+|[^/]*))?)/(.+{re.escape(SUFFIX)})")
"""OWNER/NAME[@REVISION]/FILE: of revisions with a slash, only the hub's own (refs/pr/1) can stand before a file."""
Shape = tuple[int, ...]
LOADERS = ("diffusers.utils.peft_utils", "diffusers.loaders.peft", "diffusers.loaders.lora_base")
UNHEARD = ("unexpected keys", "missing keys")
"""Words of what diffusers says where a file and a model do not fit."""


def find_lora(text: str) -> Path:
    """The file that FILE, DIR or OWNER/NAME[@REVISION][/FILE] names, on this machine; a hub's is fetched.

    Raises:
        UsageError: there is none, or it is no safetensors file.
        SetupError: the hub is out of reach, refuses, or has no such file.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        found = [path / FILE] if (path / FILE).is_file() else sorted(path.glob(f"*{SUFFIX}"))
        if len(found) != 1:
            raise UsageError(f"{text} holds {len(found)} {SUFFIX} files and no {FILE}; name the file of the LoRA.")
        return found[0]
    if path.is_file():
        if path.suffix != SUFFIX:
            raise UsageError(f"{text} is no {SUFFIX} file; others can run code as they are read. Convert it first.")
        return path
    inside = IN_A_REPOSITORY.fullmatch(text)
    name, file = inside.groups() if inside else (text, FILE)
    check_revision(name)
    if not is_hub_id(name):
        raise UsageError(f"There is no LoRA {text}: give a {SUFFIX} file, its folder, or OWNER/NAME[@REVISION][/FILE].")
    if Path(file).name == PEFT_FILE:
        fetch_file(name, str(Path(file).with_name(PEFT_SETTINGS)), KIND)
    return fetch_file(name, file, KIND)


def add_lora(pipeline: Any, file: Path) -> None:
    """Put a LoRA on a pipeline, at its own strength.

    Raises:
        UsageError: the pipeline takes none, or the file is none of this model's.
    """
    family = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise UsageError(f"A {family} takes no LoRA in diffusers.")
    before = _shapes(pipeline)
    with overheard(LOADERS, *UNHEARD) as said:
        try:
            _load(pipeline, file)
        except FAULTS as error:
            line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason is given")
            raise UsageError(
                f"{file} is no LoRA that diffusers can put on a {family}: {type(error).__name__}: {line}"
            ) from error
    shapes = _shapes(pipeline)
    put = {name.partition(".lora_A.")[0]: shape for name, shape in shapes.items() if ".lora_A." in name}
    if not put:
        raise UsageError(f"{file} holds nothing for the layers of this {family}; it is another model's, or no LoRA.")
    said += [f"{layer} has other sizes there ({shape}) than here ({here})" for layer, here, shape in _unlike(file, put)]
    grown = [layer for layer in put if shapes.get(f"{layer}.base_layer.weight") != before.get(f"{layer}.weight")]
    said += [f"{layer} would have to grow" for layer in grown]  # as diffusers lets it, for LoRAs that read pictures
    if said:
        raise UsageError(f"{file} fits this {family} in part only, so it is another model's: {said[0]}")


def lora_contents(file: Path) -> str:
    """What tells a LoRA from another: its file, and where its strength stands in one of its own that one too."""
    parts = [file, file.with_name(PEFT_SETTINGS)] if _is_of_peft(file) else [file]
    return "sha256:" + "+".join(sha256(part) for part in parts if part.is_file())


def _is_of_peft(file: Path) -> bool:
    try:
        with safe_open(file, "pt") as opened:
            return all(key.startswith(PEFT) for key in opened.keys())  # noqa: SIM118, no mapping
    except SafetensorError as error:
        raise UsageError(f"{file} is no {SUFFIX} file, or is cut off ({error}); get it again.") from error


def _load(pipeline: Any, file: Path) -> None:
    if not _is_of_peft(file):
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
        return
    network = "unet" if hasattr(pipeline, "unet") else "transformer"
    strength = _peft_strength(file)
    pipeline.load_lora_weights(
        {
            key.replace(PEFT, f"{network}.", 1): tensor * strength if ".lora_B." in key else tensor
            for key, tensor in load_file(file).items()
        }
    )


def _peft_strength(file: Path) -> float:
    """alpha / r, which PEFT keeps in a file of its own, or alpha / sqrt(r) where that says so."""
    path = file.with_name(PEFT_SETTINGS)
    if not path.is_file():
        raise UsageError(f"{file} is PEFT's, whose strength stands in {path.name}; put that file beside it.")
    settings = read_json(path)
    if settings.get("rank_pattern") or settings.get("alpha_pattern") or settings.get("use_dora"):
        raise UsageError(f"{path} gives layers strengths of their own or DoRA, which is not read here; merge it first.")
    rank, alpha = float(settings.get("r", 8)), float(settings.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _shapes(pipeline: Any) -> dict[str, Shape]:
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return {name: tuple(values.shape) for part in parts for name, values in part.named_parameters()}


def _unlike(file: Path, put: Mapping[str, Shape]) -> Iterator[tuple[str, Shape, Shape]]:
    """Layers for which diffusers has filled a narrower matrix up with zeros, as it does for some families."""
    with safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118, no mapping
            layer = key.partition(".lora_A.")[0].partition(".")[2]
            layer = layer.removeprefix("model.")  # PEFT's
            if ".lora_A." in key and layer in put and tuple(opened.get_slice(key).get_shape()) != put[layer]:
                yield layer, put[layer], tuple(opened.get_slice(key).get_shape())
