"""What the families share that diffusers loads as a pipeline of parts: one file of a family says how it differs.

Shapes: N prompts; B images; C, H, W of the latent.
"""

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import diffusers
import tokenizers
import torch
import transformers
from PIL import Image
from torch.func import functional_call

import dgpo
from dgpo.contents import text_contents
from dgpo.models.canvas import Canvas
from dgpo.models.decoded import to_images, to_pixels
from dgpo.models.dynamic_shift import FluxShift
from dgpo.models.embeddings import Embeddings, describe_machine, open_embeddings
from dgpo.models.folder import INDEX
from dgpo.models.holding import WHOLE, Holding, quantization_of
from dgpo.models.lora import add_lora
from dgpo.models.model import Conditioning, Model, ReadConfig
from dgpo.models.pretrained import FAULTS, component_precisions, load_pretrained, read_index
from dgpo.models.waiting import Resting, away, brought, weights_of
from dgpo.paths import RectifiedFlow, guide
from dgpo.schedule import CONFIG, Schedule, build_schedule
from dgpo.sections import Sampling
from rewards.errors import SetupError, UsageError

TEXT_ENCODER = "text_encoder"


class PipelineModel(Model):
    """A loaded pipeline as the trainer and the harness see it: encode, predict velocities, decode."""

    path = RectifiedFlow()
    pipeline_class: ClassVar[str]
    """Of diffusers; it loads the parts, encodes prompts and saves LoRAs."""
    config_files = ("transformer/config.json", "vae/config.json", CONFIG)
    empty_text: ClassVar[str] = ""
    """What guidance leads away from."""
    distilled: ClassVar[tuple[str, str, bool] | None] = None
    """File, name and value by which a model says that it was distilled to a few steps and takes no guidance."""
    few_steps: ClassVar[Mapping[str, Any]] = {}
    """How such a one is drawn by default, beside `defaults`."""
    optional_parts: ClassVar[tuple[str, ...]] = ()
    """Parts without which a model may be published, `null` in its index; those that read pictures always may."""

    embeddings: Embeddings | None = None
    """Where what was read of texts is kept; without it every text is read whenever it is asked for."""
    resting: Sequence[Resting] = ()
    """Weights of the network that leave the device while texts are read, where that is wanted."""

    def __init__(self, pipeline: Any, text_length: int):
        self.pipeline, self.text_length = pipeline, text_length
        self.transformer = getattr(pipeline, self.network)
        self._device = self.transformer.device  # the network may be away
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False).eval()
        self.canvas = self.canvas_of(self.transformer.config, pipeline.vae.config)

    @classmethod
    def load(
        cls, place: Path | str, *, dtype: torch.dtype, device: torch.device, text_length: int, holding: Holding = WHOLE
    ) -> Self:
        """A local diffusers folder or a hub id."""
        pipeline_class, index = getattr(diffusers, cls.pipeline_class), read_index(place)
        parts = inspect.signature(pipeline_class.__init__).parameters
        missing = [name for name, value in index.items() if value == [None, None] and name in parts]
        needed = [name for name in missing if name not in (*cls.optional_parts, "image_encoder", "feature_extractor")]
        if needed:
            raise SetupError(
                f"The model {place} has no {needed[0]} (null in its {INDEX}), which a {cls.pipeline_class} needs here; "
                "copy or download it again."
            )
        absent = dict.fromkeys(name for name in missing if name in cls.optional_parts)
        how = quantization_of(holding.quantize, cls.network, dtype=dtype, device=device)
        pipeline = load_pretrained(pipeline_class, place, dtype=dtype, **absent, **how)
        network = getattr(pipeline, cls.network)
        resting = [(tensor, tensor.data) for tensor in weights_of([network])] if holding.offload else []
        pipeline.set_progress_bar_config(disable=True)
        for part in networks_of(pipeline, encoders=False):  # text encoders wait where they were loaded
            part.to(device)
        try:
            model = cls(pipeline, text_length)
            model.resting = resting  # before any text is read
            model.embeddings = model.open_embeddings(text_contents(place))
            return model
        except FAULTS as error:
            raise SetupError(
                f"The parts of the model {place} do not work together as a {cls.pipeline_class}'s: "
                f"{type(error).__name__}: {error}. Its {INDEX} may name another pipeline's; copy or download it again."
            ) from error

    @classmethod
    @abstractmethod
    def canvas_of(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Canvas:
        """From the configs of both networks; what one leaves out is as diffusers has it."""

    @classmethod
    def times(cls, sampling: Sampling, config: Mapping[str, Any], canvas: Canvas, shape: tuple[int, ...]) -> Schedule:
        """By the scheduler's config, whose shift may grow with the patches of a latent [C, H, W].

        The pipelines after Stable Diffusion 3 give their scheduler the even times 1, 1 - 1/n, ..., 1/n to shift.
        """
        even = [1 - step / sampling.steps for step in range(sampling.steps)]
        return build_schedule(
            sampling.sampler, config, sampling.steps, dynamic_shift=FluxShift(canvas.tokens(shape)), sigmas=even
        )

    @classmethod
    def is_distilled(cls, read: ReadConfig) -> bool:
        if cls.distilled is None:
            return False
        file, name, value = cls.distilled
        return bool(read(file).get(name, False)) is value

    @classmethod
    def default_sampling(cls, read: ReadConfig) -> Sampling:
        return cls.defaults.model_copy(update=dict(cls.few_steps)) if cls.is_distilled(read) else cls.defaults

    @classmethod
    def preview(cls, read: ReadConfig, sampling: Sampling) -> list[float]:
        """From the configs of network, autoencoder and scheduler."""
        if cls.distilled is not None and sampling.guidance != 1 and cls.is_distilled(read):
            file, name, value = cls.distilled
            raise UsageError(
                f"sampling.guidance is {sampling.guidance:g}, and this model takes none ({name} is "
                f"{str(value).lower()} in {file}); give sampling.guidance=1."
            )
        network, autoencoder, scheduler = (read(file) for file in cls.config_files[:3])
        canvas = cls.canvas_of(network, autoencoder)
        return cls.times(sampling, scheduler, canvas, canvas.latent_shape(sampling.height, sampling.width)).times

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """In which the network's weights are held."""
        return self.transformer.dtype

    @property
    def precisions(self) -> Mapping[str, str]:
        return component_precisions(self.pipeline)

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        return self.canvas.latent_shape(height, width)

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        return self.canvas.size(height, width)

    def schedule(self, sampling: Sampling, shape: tuple[int, ...]) -> Schedule:
        own = self.pipeline.scheduler
        return self.times(sampling, {**own.config, "_class_name": type(own).__name__}, self.canvas, shape)

    @cached_property
    def empty(self) -> Any:
        """What guidance leads away from, one row."""
        with self.reading():
            return self.encode_empty()

    def encode(self, texts: Sequence[str], soon: Sequence[str] = ()) -> Any:
        """Each text is read alone and once: its row is the same whatever stands beside it."""
        kind, rows = type(self.empty), {text: self._find(text) for text in dict.fromkeys(texts)}
        unread = [text for text, row in rows.items() if row is None]
        if unread and self.embeddings is not None and self.device.type != "cpu":
            unread += [text for text in dict.fromkeys(soon) if text not in rows and self._find(text) is None]
        if unread:
            with self.reading():
                for text in unread:
                    row = self.encode_text(text)
                    if self.embeddings is not None:
                        self.embeddings.keep(text, row.tensors())
                    if text in rows:
                        rows[text] = row
        return kind.join([rows[text].to(self.device) for text in texts])

    def _find(self, text: str) -> Any:
        found = None if self.embeddings is None else self.embeddings.find(text)
        return None if found is None else type(self.empty).from_tensors(found)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The text encoders are on the device meanwhile, and compute in their own precision whoever asks."""
        encoders = [] if self.device.type == "cpu" else networks_of(self.pipeline, encoders=True)
        own_precision = torch.autocast(self.device.type, enabled=False)
        with away(self.resting, self.device), brought(encoders, self.device), own_precision:
            yield

    def open_embeddings(self, contents: str | None) -> Embeddings:
        """Those that were kept of this model, whose text parts are told by `contents`."""
        return open_embeddings(
            contents,
            self.empty.tensors(),
            family=self.pipeline_class,
            text_length=self.text_length,
            machine=describe_machine(self.device),
            libraries=[library.__version__ for library in (torch, diffusers, transformers, tokenizers, dgpo)],
        )

    @abstractmethod
    def encode_text(self, text: str) -> Conditioning:
        """One row, by the text encoders."""

    @abstractmethod
    def blank(self, rows: int) -> Conditioning:
        """Of so many texts as long as they may be, the shape that they have for the network; the numbers are none."""

    def encode_empty(self) -> Conditioning:
        """`empty`, by the text encoders."""
        return self.encode_text(self.empty_text)

    def add_lora(self, file: Path) -> None:
        """Put a LoRA made elsewhere on the model, at its own strength; raises as `lora.add_lora` does."""
        add_lora(self.pipeline, file)
        vars(self).pop("empty", None)  # it may be one of the text encoders too
        self.embeddings = self.open_embeddings(None)

    def velocity(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Any,
        *,
        guidance: float | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """v(x_t, t, prompt), with guidance above 1 by two calls."""
        conditional = self.predict(x_BCHW, sigma_B, conditioning, weights, **self.told(guidance))
        if self.passes(guidance) == 1 or guidance is None:
            return conditional
        unconditional = self.predict(x_BCHW, sigma_B, self.empty.first(len(x_BCHW)), weights)
        return self.combine(conditional, unconditional, guidance)

    def told(self, guidance: float | None) -> dict[str, float]:
        """What `predict` is told of the guidance, by name, where a network takes it as an input."""
        return {}

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        """Both predictions [B, C, H, W] weighed, where guidance is classifier-free."""
        return guide(conditional, unconditional, guidance)

    @abstractmethod
    def predict(
        self,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Any,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        """One pass through the network, in fp32."""

    def ask(self, weights: Mapping[str, torch.Tensor] | None, **inputs: Any) -> Any:
        """What the network gives for its own inputs, under its own weights or these."""
        inputs["return_dict"] = False
        if weights is None:
            return self.transformer(**inputs)[0]
        return functional_call(self.transformer, dict(weights), (), inputs)[0]

    @torch.no_grad()
    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image | str]:
        vae = self.pipeline.vae
        pixels = self.to_pixels(latents_BCHW)
        return to_images(latents_BCHW, pixels, self.dtype, vae.dtype)

    def to_pixels(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        """Network pixels [B, 3, H, W] of latents, by the autoencoder; scale and shift are undone once."""
        vae = self.pipeline.vae
        latents = latents_BCHW / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0]

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self.to_latents(to_pixels(images).to(self.pipeline.vae.device))

    def to_latents(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        """What `to_pixels` undoes, in fp32."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels_BCHW.to(vae.dtype)).latent_dist.mode()
        return (latents.float() - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def own_latents(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Latents as the pipeline itself holds them while it draws."""
        return x_BCHW

    def own_noise(self, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """Starting noise as the pipeline takes it."""
        return self.own_latents(noise_BCHW)

    def own_times(self, scheduler: Any) -> torch.Tensor:
        """The times that the pipeline's scheduler came to, as noise levels."""
        return scheduler.timesteps / scheduler.config.num_train_timesteps

    def own_arguments(self, texts: list[str], guidance: float) -> dict[str, Any]:
        """How the pipeline is called to draw the same."""
        return {"prompt": texts, "guidance_scale": guidance, "max_sequence_length": self.text_length}

    def save_lora(self, folder: Path, weights: Mapping[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        layers = {f"{self.network}_lora_layers": dict(weights), f"{self.network}_lora_adapter_metadata": metadata}
        getattr(diffusers, self.pipeline_class).save_lora_weights(folder, **layers)


def networks_of(pipeline: Any, *, encoders: bool) -> list[torch.nn.Module]:
    """A pipeline's text encoders, or all its other networks."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return [part for name, part in parts.items() if name.startswith(TEXT_ENCODER) == encoders]
