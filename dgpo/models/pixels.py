"""What a pipeline decodes, seen before it is colours: whether its numbers exist."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from dgpo.models.decoded import finite_rows
from rewards.errors import SetupError, UsageError


class RawPixels:
    """Looks at what a pipeline decodes before it becomes colours, which NaN and infinities do without a word.

    Every pipeline of diffusers hands its pixels to an image processor, or to its own `numpy_to_pil`; those of pipelines
    within it are watched too. What is finite passes as it is. Sizes that a pipeline refuses are told as wrong use.
    """

    def __init__(self, pipeline: diffusers.DiffusionPipeline) -> None:
        self.family = type(pipeline).__name__
        inner = [part for part in vars(pipeline).values() if isinstance(part, diffusers.DiffusionPipeline)]
        self.watched: list[tuple[Any, str]] = []
        for one in (pipeline, *inner):
            processor = getattr(one, "image_processor", None)
            self.watched.append((one, "numpy_to_pil"))
            if hasattr(processor, "postprocess"):
                self.watched.append((processor, "postprocess"))
        self.checked = [one for one in (pipeline, *inner) if hasattr(one, "check_inputs")]
        self.finite: list[bool] = []

    def __enter__(self) -> "RawPixels":
        for owner, name in self.watched:
            vars(owner)[name] = self._looking(getattr(owner, name))
        for pipeline in self.checked:
            vars(pipeline)["check_inputs"] = self._telling(pipeline.check_inputs)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name in [*self.watched, *((one, "check_inputs") for one in self.checked)]:
            del vars(owner)[name]

    def finite_of(self, images: int) -> list[bool]:
        """For each image of the call whether all its numbers existed."""
        if len(self.finite) != images:
            raise SetupError(
                f"{self.family} does not show its pixels before they are colours, so that an image that failed could "
                "not be told from a black one; it cannot be drawn from here."
            )
        return self.finite

    def _looking(self, convert: Callable[..., Any]) -> Callable[..., Any]:
        def look(pixels: Any, *arguments: Any, **named: Any) -> Any:
            values = torch.as_tensor(pixels)
            if not self.finite:  # the first to see them; the other may be called by it with the same ones
                self.finite = finite_rows(values)
            sound = values.nan_to_num()
            return convert(sound if isinstance(pixels, torch.Tensor) else sound.numpy(), *arguments, **named)

        return look

    def _telling(self, check: Callable[..., None]) -> Callable[..., None]:
        def tell(*arguments: Any, **named: Any) -> None:
            try:
                check(*arguments, **named)
            except ValueError as error:
                raise UsageError(f"{self.family} cannot draw with these settings: {error}") from None

        return tell
