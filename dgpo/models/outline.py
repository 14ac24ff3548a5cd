"""A model without its numbers: every part in its shape and precision, made from the small files of its folder alone."""

import inspect
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import transformers

from dgpo.models.folder import INDEX
from dgpo.models.model import ReadConfig
from dgpo.models.pipeline_model import TEXT_ENCODER, PipelineModel


def outline(family: type[PipelineModel], read: ReadConfig, *, dtype: torch.dtype, text_length: int) -> PipelineModel:
    """A model of a family, from its index and the configs of its parts, on the meta device; its texts are `blank`."""
    model = family(_Pipeline(family, read, dtype), text_length)
    model.empty = model.blank(1)
    return model


def part_files(family: type[PipelineModel], read: ReadConfig) -> list[str]:
    """The small files that `outline` reads of a model, beside its index."""
    names = [name for name, (_, kind) in _parts(read(INDEX)).items() if _is_network(kind)]
    return [*(f"{name}/config.json" for name in names), *family.config_files]


class _Pipeline(SimpleNamespace):
    """What the families ask a pipeline for, beside its own encoding of texts."""

    def __init__(self, family: type[PipelineModel], read: ReadConfig, dtype: torch.dtype) -> None:
        index, pipeline = read(INDEX), getattr(diffusers, family.pipeline_class)
        named = inspect.signature(pipeline.__init__).parameters
        settings = {name: index.get(name, one.default) for name, one in named.items() if one.default is not one.empty}
        parts = {name: part for name, part in _parts(index).items() if _is_network(part[1])}
        networks = {name: _build(*part, read(f"{name}/config.json"), dtype) for name, part in parts.items()}
        kind = getattr(diffusers, index["scheduler"][1])
        absent = dict.fromkeys(name for name in named if name.startswith(TEXT_ENCODER))
        super().__init__(
            **{**absent, **networks},
            components=networks,
            config=SimpleNamespace(**settings),
            scheduler=kind.from_config(read(f"scheduler/{kind.config_name}")),
            tokenizer_max_length=getattr(networks[TEXT_ENCODER].config, "max_position_embeddings", None),
        )


def _parts(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of every part that a model has."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {name: (value[0], value[1]) for name, value in pairs.items() if value[0] is not None}


def _is_network(kind: str) -> bool:
    found = getattr(diffusers, kind, None) or getattr(transformers, kind, None)
    return isinstance(found, type) and issubclass(found, torch.nn.Module)


def _build(library: str, kind: str, config: Mapping[str, Any], dtype: torch.dtype) -> torch.nn.Module:
    with torch.device("meta"):
        if library == "diffusers":
            network = getattr(diffusers, kind).from_config(dict(config))
        else:
            made: Any = getattr(transformers, kind)
            network = made(made.config_class.from_dict(dict(config)))
        return torch.nn.Module.to(network, dtype)  # diffusers' own warns of parts in fp32
