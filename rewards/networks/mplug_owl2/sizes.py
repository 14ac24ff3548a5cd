"""Every size of the network, from the config.json that is published with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.errors import SetupError

Config = Mapping[str, object]
# What the fields of the classes below are called in the file, in their order.
_VISION = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
    "layer_norm_eps",
)  # fmt: skip
_ABSTRACTOR = (
    "num_learnable_queries", "intermediate_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps",
)  # fmt: skip
_LANGUAGE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps",
    "rope_theta",
)  # fmt: skip
# Absent means the value here; with another one it would be a network that is not built here.
_LANGUAGE_FIXED = {
    "model_type": "mplug_owl2",
    "hidden_act": "silu",
    "rope_scaling": None,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
_VISION_FIXED = {"hidden_act": "quick_gelu", "num_channels": 3}


@dataclass(frozen=True)
class VisionSizes:
    """Of the ViT; `size` is the side of the images in pixels."""

    width: int
    mlp: int
    layers: int
    heads: int
    size: int
    patch: int
    eps: float

    @property
    def tokens(self) -> int:
        return 1 + (self.size // self.patch) ** 2


@dataclass(frozen=True)
class AbstractorSizes:
    """Of what sums the ViT's tokens up in `queries`; `eps` is that of the norm within its MLPs."""

    queries: int
    mlp: int
    layers: int
    heads: int
    eps: float


@dataclass(frozen=True)
class LanguageSizes:
    """Of the LLaMA."""

    vocabulary: int
    width: int
    mlp: int
    layers: int
    heads: int
    eps: float
    rope_theta: float


@dataclass(frozen=True)
class Sizes:
    vision: VisionSizes
    abstractor: AbstractorSizes
    language: LanguageSizes


def read_sizes(config: Config, source: Path) -> Sizes:
    """Sizes and epsilons; nothing that moves a score has a default.

    Args:
        source: the file that `config` comes from, for messages.

    Raises:
        SetupError: something is absent, cannot be, or would be another network than this one.
    """
    visual = _part(config, "visual_config", source)
    seen, summed = (_part(visual, f"visual_{name}", source) for name in ("model", "abstractor"))
    _refuse_others(config, _LANGUAGE_FIXED, source)
    _refuse_others(seen, _VISION_FIXED, source)
    sizes = Sizes(
        VisionSizes(*_read(seen, _VISION, source)),
        AbstractorSizes(*_read(summed, _ABSTRACTOR, source)),
        LanguageSizes(*_read(config, _LANGUAGE, source)),
    )
    _refuse_impossible(sizes, source)
    same = {"hidden_size": sizes.vision.width, "encoder_hidden_size": sizes.vision.width}
    _refuse_others(summed, same | {"grid_size": sizes.vision.size // sizes.vision.patch}, source)
    _refuse_others(config, {"num_key_value_heads": sizes.language.heads}, source)
    return sizes


def _part(config: Config, name: str, source: Path) -> Config:
    part = config.get(name)
    if not isinstance(part, Mapping):
        raise SetupError(f"{source} has no {name}: it is not the config.json of an mPLUG-Owl2.")
    return part


def _read(config: Config, names: Sequence[str], source: Path) -> list[Any]:
    """Numbers above 0: epsilons and theta are any, the others whole."""
    values = [config.get(name) for name in names]
    for name, value in zip(names, values, strict=True):
        kind = (int, float) if name.endswith(("_eps", "_theta")) else int
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < math.inf:
            if value is None:
                raise SetupError(f"{source} does not say {name}, without which scores would be off; fetch it again.")
            raise SetupError(f"{source} says {name}: {value!r}, which cannot be.")
    return values


def _refuse_others(config: Config, fixed: Config, source: Path) -> None:
    for name, value in fixed.items():
        if config.get(name, value) != value:
            raise SetupError(f"{source} says {name}: {config[name]!r}; only {value!r} is reproduced here.")


def _refuse_impossible(sizes: Sizes, source: Path) -> None:
    vision, language = sizes.vision, sizes.language
    problem = ""
    if vision.size % vision.patch:
        problem = f"{vision.size} pixels do not divide into patches of {vision.patch}"
    elif vision.width % vision.heads:
        problem = f"the vision width {vision.width} does not divide into {vision.heads} heads"
    elif vision.width % sizes.abstractor.heads:
        problem = f"the abstractor's width {vision.width} does not divide into {sizes.abstractor.heads} heads"
    elif language.width % (2 * language.heads):
        problem = f"the width {language.width} does not divide into {language.heads} heads of an even width"
    if problem:
        raise SetupError(f"{source} makes no network: {problem}.")
