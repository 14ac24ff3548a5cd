"""The model families that can be trained, by the pipeline class that a folder's model_index.json names.

A family is one file behind `model.Model` and one row here.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rewards.errors import UsageError

if TYPE_CHECKING:
    from dgpo.models.model import Model

# pipeline class -> "module:Class", imported when such a model is loaded; a class itself may stand there too.
FAMILIES: dict[str, "str | type[Model]"] = {
    "Flux2KleinPipeline": "dgpo.models.flux2_klein:Flux2Klein",
    "Flux2Pipeline": "dgpo.models.flux2_dev:Flux2Dev",
    "FluxPipeline": "dgpo.models.flux:Flux",
    "QwenImagePipeline": "dgpo.models.qwen_image:QwenImage",
    "SanaPipeline": "dgpo.models.sana:Sana",
    "StableDiffusion3Pipeline": "dgpo.models.sd3:SD3",
    "StableDiffusionXLPipeline": "dgpo.models.sdxl:SDXL",
    "ZImagePipeline": "dgpo.models.z_image:ZImage",
}


def is_trainable(index: Mapping[str, Any]) -> bool:
    """Whether the model of such a model_index.json can be trained; any other can only be drawn from."""
    return index.get("_class_name") in FAMILIES


def family_of(place: object, index: Mapping[str, Any]) -> "type[Model]":
    """The family of the model in `place`.

    Raises:
        UsageError: none that can be trained.
    """
    name = index.get("_class_name")
    if name not in FAMILIES:
        raise UsageError(
            f"{place} holds a {name}, which cannot be trained; `dgpo models ls` lists those that can. `dgpo eval` and "
            "`dgpo sample` draw with any text-to-image pipeline of diffusers."
        )
    found = FAMILIES[name]
    if isinstance(found, str):
        module, _, kind = found.partition(":")
        found = getattr(importlib.import_module(module), kind)
    assert isinstance(found, type)
    return found
