"""A LoRA made by anybody, put on a loaded pipeline: files of diffusers and PEFT, and others that diffusers converts.

Only safetensors are read. What does not fit the model as a whole is refused: half of a LoRA is another LoRA.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from dgpo.models.hub import fetch_file
from dgpo.models.pretrained import FAULTS
from rewards.errors import UsageError

FILE = "pytorch_lora_weights.safetensors"
SUFFIX = ".safetensors"
Shape = tuple[int, ...]
UNHEARD = ("unexpected keys", "missing keys")
"""Words of what diffusers says where a file and a model do not fit."""


def find_lora(text: str) -> Path:
    """The file that FILE, DIR, OWNER/NAME or OWNER/NAME/FILE names, on this machine; a hub's is fetched.

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
    owner, _, rest = text.partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name) or text.startswith((".", "/", "~")) or (file and not file.endswith(SUFFIX)):
        raise UsageError(f"There is no LoRA {text}: give a {SUFFIX} file, its folder, or OWNER/NAME of the hub.")
    return fetch_file(f"{owner}/{name}", file or FILE)


def add_lora(pipeline: Any, file: Path) -> None:
    """Put a LoRA on a pipeline, at its own strength.

    Raises:
        UsageError: the pipeline takes none, or the file is none of this model's.
    """
    family = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise UsageError(f"A {family} takes no LoRA in diffusers.")
    before = _shapes(pipeline)
    with _overheard() as said:
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
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


def _shapes(pipeline: Any) -> dict[str, Shape]:
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return {name: tuple(values.shape) for part in parts for name, values in part.named_parameters()}


def _unlike(file: Path, put: Mapping[str, Shape]) -> Iterator[tuple[str, Shape, Shape]]:
    """Layers for which diffusers has filled a narrower matrix up with zeros, as it does for some families."""
    with safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118, no mapping
            layer = key.partition(".lora_A.")[0].partition(".")[2]
            if ".lora_A." in key and layer in put and tuple(opened.get_slice(key).get_shape()) != put[layer]:
                yield layer, put[layer], tuple(opened.get_slice(key).get_shape())


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What diffusers only warns of: layers that one of both lacks."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if any(words in record.getMessage() for words in UNHEARD):
                said.append(" ".join(record.getMessage().split())[:200])

    logger, ear = logging.getLogger("diffusers"), Ear(logging.WARNING)
    level = logger.level
    logger.addHandler(ear)
    logger.setLevel(logging.WARNING)
    try:
        yield said
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
