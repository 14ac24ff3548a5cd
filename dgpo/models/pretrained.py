"""Load a pipeline through diffusers: safetensors only, no code that comes with a model, faults told in a sentence."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from dgpo.models.find import HubId
from dgpo.models.folder import INDEX, read_json
from dgpo.models.hub import fetch_file, find_cached, told_of_the_hub
from dgpo.precision import TORCH_NAMES
from rewards.errors import SetupError

# What the libraries raise for a file that does not hold what it should: no common ancestor, and nothing of ours runs
# while they are caught.
FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)
MADE_UP = "newly initialized"  # weights that a file lacks
LOADERS = ("diffusers.models.modeling_utils", "transformers.modeling_utils")


def read_index(place: Path | str) -> dict[str, Any]:
    """The `model_index.json` of a local folder or of a hub id.

    Raises:
        SetupError: it cannot be had, or is none.
    """
    return read_part(place, INDEX)


def read_part(place: Path | str, file: str) -> dict[str, Any]:
    """A JSON file of a model, such as `vae/config.json`; raises as `read_index` does."""
    path = place / file if isinstance(place, Path) else fetch_file(place, file)
    if not path.is_file():
        raise SetupError(f"{path} is missing; copy or download the model again.")
    return read_json(path)


def is_here(place: Path | str, file: str) -> bool:
    """Whether `read_part` needs no network."""
    return isinstance(place, Path) or find_cached(place, file) is not None


def load_pretrained(family: type[DiffusionPipeline], place: Path | str, **options: Any) -> Any:
    """The pipeline in a local folder or of a hub id.

    Raises:
        SetupError: its files cannot be loaded, or lack weights that its networks have.
    """
    source: Path | str = place
    if isinstance(place, str):
        source, options["revision"] = HubId.of(place)
    try:
        with told_of_the_hub(place) if isinstance(place, str) else nullcontext(), overheard(LOADERS, MADE_UP) as said:
            pipeline = family.from_pretrained(source, use_safetensors=True, **options)
    except FAULTS as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason is given")
        raise SetupError(
            f"The model {place} ({family.__name__}) could not be loaded: {type(error).__name__}: {line} Only whole "
            "models, saved as safetensors and without code of their own, are taken; copy or download it again."
        ) from error
    if said:
        raise SetupError(
            f"The model {place} ({family.__name__}) lacks weights that its networks have, and they would be random "
            f"({said[0]}). Its configs and weights do not belong together; copy or download it again."
        )
    return pipeline


def component_precisions(pipeline: DiffusionPipeline) -> dict[str, str]:
    """In which precision each network of a pipeline is held."""
    names = {f"torch.{name}": precision for precision, name in TORCH_NAMES.items()}
    held = {name: str(part.dtype) for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {name: names.get(dtype, dtype) for name, dtype in held.items()}


@contextmanager
def overheard(names: Sequence[str], *words: str) -> Iterator[list[str]]:
    """What libraries only warn of: what these loggers say with any of these words in it."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if any(one in record.getMessage() for one in words):
                said.append(" ".join(record.getMessage().split())[:300])

    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    ear = Ear(logging.WARNING)
    for logger in loggers:
        logger.addHandler(ear)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield said
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(ear)
            logger.setLevel(level)
            logger.propagate = propagate
