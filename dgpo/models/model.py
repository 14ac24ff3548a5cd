"""What a model family is to the rest: one contract, so that loop, policy and algorithms know no family.

Shapes: N prompts; B images; C, H, W of the latent, which is [B, C, H, W] everywhere outside a family.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image

from dgpo.models.holding import WHOLE, Holding
from dgpo.paths import Path as NoisePath
from dgpo.schedule import Schedule
from dgpo.sections import Sampling
from rewards.errors import UsageError

ReadConfig = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Conditioning:
    """What the network is told of N prompts: tensors with one row per prompt. A family adds its own as fields."""

    def take(self, rows: torch.Tensor) -> Self:
        """These rows, in this order."""
        return self._each(lambda tensor: tensor[rows])

    def first(self, rows: int) -> Self:
        """The first prompt, as if it stood in that many rows; takes no memory."""
        return self._each(lambda tensor: tensor[:1].expand(rows, *(-1 for _ in tensor.shape[1:])))

    def to(self, device: torch.device) -> Self:
        return self._each(lambda tensor: tensor.to(device))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All rows of these, one part after the other."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that it is, by name; `from_tensors` makes it of them again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        return cls(**tensors)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return type(self)(*(change(getattr(self, field.name)) for field in fields(self)))


class Model(ABC):
    """A loaded model of one family: texts in, velocities asked, images out."""

    summary: ClassVar[str] = ""
    """Which models are of the family, and how they are guided."""
    proved: ClassVar[str] = "every check of the kit on a tiny random folder; published weights were not at hand"
    """What is known to hold."""
    recipes: ClassVar[str] = ""
    """What the names of the family's recipes begin with."""
    path: ClassVar[NoisePath]
    """The path that the family was trained on."""
    defaults: ClassVar[Sampling]
    """How the family's models are drawn from where nobody says otherwise."""
    lora_targets: tuple[str, ...]
    """The layers that get adapters where `training.modules` names none."""
    network: ClassVar[str] = "transformer"
    """What the network that is trained is called in a pipeline: before the layers' names in a published LoRA file, and
    as the folder of its weights."""
    stochastic: ClassVar[bool] = True
    """Whether noise can be added on the way (`rollout.noise`), whose steps are those of a rectified flow from pure
    noise on."""
    config_files: ClassVar[tuple[str, ...]] = ()
    """The small files that `preview` reads, beside the index."""

    scale: float = 1.0
    """The guidance that a network which takes it as an input is told in learning: that of its rollouts."""
    transformer: Any
    """The network that is trained, of diffusers' kind (`ModelMixin`, `PeftAdapterMixin`): its config can be written as
    JSON, adapters can be added to it and switched off."""

    @classmethod
    @abstractmethod
    def load(
        cls, place: Path | str, *, dtype: torch.dtype, device: torch.device, text_length: int, holding: Holding = WHOLE
    ) -> Self:
        """The model of a local folder or a hub id, frozen, on `device`.

        Raises:
            SetupError: its files cannot be loaded, or not held so.
        """

    @classmethod
    @abstractmethod
    def preview(cls, read: ReadConfig, sampling: Sampling) -> list[float]:
        """The times that a model would visit, as sigma, from its small files alone; `read` reads one of `config_files`.

        Raises:
            UsageError: a size that it cannot draw, or a scheduler that the sampler cannot follow.
        """

    @classmethod
    def is_distilled(cls, read: ReadConfig) -> bool:
        """Whether the small files of a model say that it was distilled to a few steps."""
        return False

    @classmethod
    def default_sampling(cls, read: ReadConfig) -> Sampling:
        """`defaults`, or what the small files of a model say is its own."""
        return cls.defaults

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def precisions(self) -> Mapping[str, str]:
        """In what each of its networks computes (`{"vae": "fp32", ...}`)."""

    @abstractmethod
    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """Latent [C, H, W] of an image; without a size, the model's own. One that it cannot draw is a UsageError."""

    @abstractmethod
    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width in pixels of an image; without one, the model's own."""

    @abstractmethod
    def encode(self, texts: Sequence[str], soon: Sequence[str] = ()) -> Conditioning:
        """A row for each text, which does not depend on the others; an empty text is the unconditional one.

        Args:
            soon: texts that will be asked for next, which are read in the same go where text encoders wait elsewhere.
        """

    @abstractmethod
    def schedule(self, sampling: Sampling, shape: tuple[int, ...]) -> Schedule:
        """The sampler's times for latents [C, H, W]: the model's own, dynamic shift included."""

    def start(self, noise_BCHW: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Where a rollout begins: noise itself, if the first time is noise or nearly so."""
        return noise_BCHW

    @abstractmethod
    def velocity(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Any,
        *,
        guidance: float | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The prediction of the family's path, in fp32, one conditioning row per image.

        Sign, direction of time, packing and the way of guidance are the family's. `weights` replace tensors of the
        transformer, by its own names, in this call.

        Args:
            guidance: None as a network learns: without classifier-free guidance, and told `scale` if it takes one.
        """

    @classmethod
    def passes(cls, guidance: float | None) -> int:
        """How many passes through the network one velocity costs."""
        return 2 if guidance is not None and guidance > 1 else 1

    @abstractmethod
    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image | str]:
        """Latents to 8-bit RGB images, rounded once; for numbers that are no colours, the reason in their place."""

    @abstractmethod
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """RGB images of one size to latents [B, C, H, W] in fp32: the autoencoder's mean, no noise."""

    def add_lora(self, file: Path) -> None:
        """Put a LoRA made elsewhere on the model, at its own strength.

        Raises:
            UsageError: the model takes none, or the file is none of its own.
        """
        raise UsageError(f"A {type(self).__name__} takes no LoRA.")

    @abstractmethod
    def save_lora(self, folder: Path, weights: Mapping[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        """Write a LoRA of the transformer as diffusers loads it, `pytorch_lora_weights.safetensors`."""
