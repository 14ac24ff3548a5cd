"""Any other text-to-image pipeline of diffusers, as the evaluation harness sees it: a prompt and a seed make an image.

Such a model is drawn from by its own program and scheduler, and cannot be trained here. What all share with the
models that can: an image's random numbers come from one CPU generator of its own, seeded by the prompt's id and the
seed. diffusers draws the starting noise from it first, so models with latents of one shape start from the same noise
(SD3 and the embedded model included), whatever the batch, the device and the precision; a stochastic sampler goes on
drawing from the same generator.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import diffusers
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from dgpo.models.decoded import not_finite
from dgpo.models.effect import TRUE_GUIDANCE, refuse_without_effect
from dgpo.models.pixels import RawPixels
from dgpo.models.pretrained import component_precisions, load_pretrained, read_index
from dgpo.noise import seeded_generator
from dgpo.precision import describe_parts
from rewards.errors import UsageError, suggestion
from rewards.prompt import Prompt

# Our names of sampler settings, as in `dgpo.config.Sampling`, and what diffusers calls them.
ARGUMENTS = {"steps": "num_inference_steps", "guidance": "guidance_scale", "height": "height", "width": "width"}
OWN = ("prompt", "generator", "output_type")
NOT_SETTINGS = {*OWN, "return_dict", "num_images_per_prompt"}
SETTING_TYPES = (bool, int, float, str)
WITHHELD = "its own safety checker found something in it"
LOW_PRECISION = (torch.float16, torch.bfloat16)


class TextToImage:
    """A loaded pipeline with the settings it is drawn with; `sampler` is what a record says of them."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, settings: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.arguments = settle_arguments(type(pipeline), settings)
        pipeline.set_progress_bar_config(disable=True)
        self.size = self._settle_size()

    @classmethod
    def from_folder(
        cls, path: Path | str, settings: Mapping[str, Any], *, dtype: torch.dtype, device: torch.device
    ) -> "TextToImage":
        """Load a local folder or a hub id: safetensors only, no code but diffusers' own.

        Raises:
            UsageError: it makes no images from texts alone, does not know one of the settings, or does nothing with
                it; said before anything large is loaded.
            SetupError: its files cannot be loaded.
        """
        family = find_family(path)
        refuse_without_effect(family, path, settings, settle_arguments(family, settings), argument_names(family))
        pipeline = load_pretrained(family, path, dtype=dtype)
        return cls(pipeline.to(device), settings)

    @property
    def sampler(self) -> dict[str, Any]:
        """Pipeline, scheduler, precision, and every setting with its value, given or the pipeline's default."""
        names = argument_names(type(self.pipeline))
        settled = {name: self.arguments.get(argument) for name, argument in names.items()}
        others = {name: value for name, value in self.arguments.items() if name not in names.values()}
        scheduler = getattr(self.pipeline, "scheduler", None)
        return {
            "pipeline": type(self.pipeline).__name__,
            "scheduler": None if scheduler is None else type(scheduler).__name__,
            "dtype": describe_parts(component_precisions(self.pipeline)),
            **settled,
            **self.size,
            **others,
            "noise": "one CPU generator an image, which a stochastic sampler goes on drawing from",
        }

    @torch.no_grad()
    def draw(self, cells: Sequence[tuple[Prompt, int]], micro_batch: int = 4) -> list[Image.Image | str]:
        """One image a (prompt, seed), or the reason why there is none: not finite, or blackened by a safety checker.

        Raises:
            UsageError: the pipeline cannot draw the size that was asked for, or draws another one.
            SetupError: the pipeline does not show its numbers before they are colours.
        """
        images: list[Image.Image | str] = []
        for start in range(0, len(cells), micro_batch):
            chosen = cells[start : start + micro_batch]
            with _FullPrecisionNoise(), RawPixels(self.pipeline) as raw:
                drawn = self._run(
                    prompt=[prompt.text for prompt, _ in chosen],
                    generator=[seeded_generator("image", prompt.id, seed) for prompt, seed in chosen],
                    output_type="pil",
                    **self._given(len(chosen)),
                )
            blackened = getattr(drawn, "nsfw_content_detected", None) or [False] * len(chosen)
            for image, black, sound in zip(drawn.images, blackened, raw.finite_of(len(chosen)), strict=True):
                self._refuse_other_size(image)
                reason = WITHHELD if black else not_finite("pixels", self.pipeline.dtype)
                images.append(image if sound and not black else reason)
        return images

    def _run(self, **arguments: Any) -> Any:
        """The pipeline's own `__call__`, which the class that all pipelines share does not have."""
        return cast("Callable[..., Any]", self.pipeline)(**arguments)

    @torch.no_grad()
    def _settle_size(self) -> dict[str, int | None]:
        """Pixels of a drawing; a size that was not asked for is the one with which the pipeline checks its inputs.

        Nothing is drawn for that. None where a pipeline settles it later still.
        """
        size: dict[str, int | None] = {name: self.arguments.get(name) for name in ("width", "height")}
        check = getattr(self.pipeline, "check_inputs", None)
        if check is None or None not in size.values():
            return size

        def stop(*arguments: Any, **named: Any) -> NoReturn:
            raise _Settled(inspect.signature(check).bind(*arguments, **named).arguments)

        vars(self.pipeline)["check_inputs"] = stop
        try:
            self._run(prompt=["x"], generator=[torch.Generator()], output_type="pil", **self._given(1))
        except _Settled as settled:
            return {name: pixels or settled.arguments.get(name) for name, pixels in size.items()}
        finally:
            del vars(self.pipeline)["check_inputs"]
        return size

    def _refuse_other_size(self, image: Image.Image) -> None:
        """Some pipelines round a size in silence, and the record would tell of another."""
        drawn: dict[str, int] = {"width": image.width, "height": image.height}
        for name, pixels in self.size.items():
            if pixels is not None and pixels != drawn[name]:
                raise UsageError(
                    f"{type(self.pipeline).__name__} draws {drawn[name]} pixels where sampling.{name} is {pixels}: it "
                    f"rounds sizes. Give --set sampling.{name}={drawn[name]}."
                )

    def _given(self, batch: int) -> dict[str, Any]:
        """The arguments of one call; a text besides the prompt is wanted once per image."""
        return {
            name: [value] * batch if name.startswith("negative_prompt") and isinstance(value, str) else value
            for name, value in self.arguments.items()
        }


class _Settled(Exception):
    """Ends a pipeline's call where it checks its inputs, which are the `arguments`."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments


class _FullPrecisionNoise(TorchFunctionMode):
    """Noise for bf16 and fp16 is drawn in fp32 and rounded: drawn at low precision, it would be other noise."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        dtype = kwargs.get("dtype")
        if func is torch.randn and kwargs.get("generator") is not None and dtype in LOW_PRECISION:
            return func(*args, **{**kwargs, "dtype": torch.float32}).to(dtype)
        return func(*args, **kwargs)


def find_family(path: Path | str) -> type[diffusers.DiffusionPipeline]:
    """The pipeline class of a folder or a hub id, if it draws images from texts.

    Raises:
        UsageError: it needs more than a text, or is none of diffusers' own.
    """
    name = read_index(path).get("_class_name")
    family = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(family, type) and issubclass(family, diffusers.DiffusionPipeline)):
        raise UsageError(
            f"{path} is a {name}, which is no pipeline of diffusers {diffusers.__version__}; code that comes with a "
            "model is not run."
        )
    parameters = inspect.signature(family.__call__).parameters
    needs_more = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty and parameter.name not in ("self", "prompt", "args", "kwargs")
    ]
    other_input = {"image", "video", "num_frames"} & set(parameters)
    if not set(OWN) <= set(parameters) or needs_more or (other_input and not _is_listed(family)):
        raise UsageError(f"{path} is a {name}, which does not make images from texts alone.")
    return family


def _is_listed(family: type[diffusers.DiffusionPipeline]) -> bool:
    """Among those that diffusers calls text-to-image; its list imports every pipeline there is, so it is asked last."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    return family in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()


def settle_arguments(family: type[diffusers.DiffusionPipeline], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline's plain arguments with their values: those given, its own defaults for the rest.

    Raises:
        UsageError: a setting that this pipeline does not take, or a value that cannot be one.
    """
    parameters = inspect.signature(family.__call__).parameters
    ours = {argument: name for name, argument in argument_names(family).items()}
    taken = {
        ours.get(parameter.name, parameter.name): parameter
        for parameter in parameters.values()
        if _is_setting(parameter) and (parameter.name in ours or parameter.name not in ARGUMENTS.values())
    }
    arguments = {
        parameter.name: parameter.default
        for parameter in taken.values()
        if parameter.default is not None and parameter.default is not parameter.empty
    }
    for name, value in settings.items():
        if name not in taken:
            raise UsageError(f'{family.__name__} has no setting "sampling.{name}".{suggestion(name, taken)}')
        _check_value(name, value, taken[name].default)
        arguments[taken[name].name] = value
    if arguments.get(TRUE_GUIDANCE, 0) > 1:  # it acts beside a negative prompt only; a space is the families' advice
        arguments.setdefault("negative_prompt", " ")
    return arguments


def argument_names(family: type[diffusers.DiffusionPipeline]) -> dict[str, str]:
    """Our names of settings and what this family calls them.

    Where `guidance_scale` is for distilled checkpoints only (it stands at None), classifier-free guidance is
    `true_cfg_scale`, as in Qwen-Image.
    """
    parameters = inspect.signature(family.__call__).parameters
    scale = parameters.get("guidance_scale")
    if "true_cfg_scale" in parameters and (scale is None or scale.default is None):
        return {**ARGUMENTS, "guidance": TRUE_GUIDANCE}
    return ARGUMENTS


def _is_setting(parameter: inspect.Parameter) -> bool:
    """Whether a plain value can be given: one stands there already, or the name is known to take one."""
    if parameter.name in ARGUMENTS.values():
        return True
    negative = parameter.name.startswith("negative_prompt") and "embeds" not in parameter.name
    return parameter.name not in NOT_SETTINGS and (negative or isinstance(parameter.default, SETTING_TYPES))


def _check_value(name: str, value: Any, default: Any) -> None:
    """UsageError for a value that is not of the default's kind."""
    if name in ("steps", "height", "width"):
        fits, wanted = type(value) is int and value > 0, "a whole number from 1 up"
    elif isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif name == "guidance" or isinstance(default, (int, float)):
        fits, wanted = type(value) in (int, float) and math.isfinite(value), "a number"
    else:
        fits, wanted = isinstance(value, str), "a text"
    if not fits:
        raise UsageError(f"sampling.{name} takes {wanted}; got {value!r}.")
