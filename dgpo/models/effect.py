"""Settings that a pipeline takes and then does nothing with: refused, by small config files alone.

What is asked is diffusers' own code: whether a scale guides is the family's property, what a config leaves out is its
class's default.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers

from dgpo.models.pretrained import read_index, read_part
from rewards.errors import UsageError

TRUE_GUIDANCE = "true_cfg_scale"


def refuse_without_effect(
    family: type[diffusers.DiffusionPipeline],
    place: Path | str,
    settings: Mapping[str, Any],
    arguments: Mapping[str, Any],
    names: Mapping[str, str],
) -> None:
    """UsageError for the first of the `settings` that would change no pixel of what this model draws.

    Args:
        settings: those that were asked for, by our names.
        arguments: the values of the call, by diffusers' names.
        names: what diffusers calls our names, where that differs.
    """
    model = _Model(family, place)
    ours = {argument: name for name, argument in names.items()}
    for name in settings:
        argument = names.get(name, name)
        rule = next((rule for start, rule in RULES.items() if argument.startswith(start)), None)
        reason = rule and rule(model, arguments, ours)
        if reason:
            raise UsageError(f"sampling.{name} has no effect on {place}, a {family.__name__}: {reason}.")


@dataclass(frozen=True)
class _Model:
    """What the config files of a model say, read when asked for."""

    family: type[diffusers.DiffusionPipeline]
    place: Path | str

    @cached_property
    def index(self) -> dict[str, Any]:
        return read_index(self.place)

    def part(self, name: str) -> type | None:
        """The class of one of its parts, if it is diffusers' own."""
        library, kind = self.index.get(name) or ("", "")
        return getattr(diffusers, kind or "", None) if library == "diffusers" else None

    def config(self, name: str) -> "_Config":
        kind = self.part(name)
        return _Config() if kind is None else _filled(kind, read_part(self.place, f"{name}/config.json"))

    def guides(self, scale: float) -> bool:
        """Whether the pipeline compares with an unconditional (or negative) prompt at this scale."""
        own = getattr(self.family, "do_classifier_free_guidance", None)
        if not isinstance(own, property) or own.fget is None:
            return scale > 1
        unet = SimpleNamespace(config=self.config("unet"))
        config = _filled(self.family, self.index)
        return bool(own.fget(SimpleNamespace(_guidance_scale=scale, guidance_scale=scale, config=config, unet=unet)))

    @property
    def embeds_guidance(self) -> bool:
        """Whether a network takes the scale as an input, as distilled ones do."""
        return bool(self.config("transformer").guidance_embeds or self.config("unet").time_cond_proj_dim)


class _Config(dict[str, Any]):
    """Settings read as attributes; None where there is none, as in a part that the model lacks."""

    __getattr__ = dict.get


def _filled(kind: type, values: Mapping[str, Any]) -> _Config:
    """A config, what it leaves out being the default of its class."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    return _Config({one.name: one.default for one in parameters if one.default is not one.empty} | dict(values))


def _idle_guidance(model: _Model, arguments: Mapping[str, Any], ours: Mapping[str, str]) -> str | None:
    taken = inspect.signature(model.family.__call__).parameters
    by_input_alone = TRUE_GUIDANCE in taken or "negative_prompt" not in taken
    if by_input_alone and not hasattr(model.family, "do_classifier_free_guidance"):
        return _idle_input(model, arguments, ours)
    if model.guides(math.inf) or model.embeds_guidance:
        return None
    return "it was distilled to draw without guidance; leave it out"


def _idle_input(model: _Model, arguments: Mapping[str, Any], ours: Mapping[str, str]) -> str | None:
    if model.config("transformer").guidance_embeds is not False:
        return None
    return "its transformer takes no guidance (guidance_embeds is false in its config); leave it out"


def _idle_negative(model: _Model, arguments: Mapping[str, Any], ours: Mapping[str, str]) -> str | None:
    true_guidance = arguments.get(TRUE_GUIDANCE)
    argument = "guidance_scale" if true_guidance is None else TRUE_GUIDANCE
    scale = arguments.get(argument)
    if scale is None or (scale > 1 if true_guidance is not None else model.guides(scale)):
        return None
    if true_guidance is None and not model.guides(math.inf):
        return "it draws without guidance; leave it out"
    return f"sampling.{ours.get(argument, argument)} is {scale:g}, at which nothing guides; give a larger one"


def _idle_eta(model: _Model, arguments: Mapping[str, Any], ours: Mapping[str, str]) -> str | None:
    scheduler = model.part("scheduler")
    if scheduler is None or "eta" in inspect.signature(scheduler.step).parameters:
        return None
    return f"its scheduler, {scheduler.__name__}, does not take it; leave it out"


RULES: dict[str, Callable[[_Model, Mapping[str, Any], Mapping[str, str]], str | None]] = {
    "guidance_scale": _idle_guidance,
    "distilled_guidance_scale": _idle_input,
    "negative_prompt": _idle_negative,
    "eta": _idle_eta,
}
"""By how the argument's name begins; each gives the reason and how to mend it, or None where the setting acts."""
