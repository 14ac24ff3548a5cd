"""How much memory a training takes on each rank, worked out before it from the small files of its model.

The model's networks are run once with PyTorch's fake tensors, which have shapes and types and no numbers: what they
would allocate is counted where real ones would allocate it. In bytes throughout.
"""

import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dgpo.algorithms.algorithm import Needs, find_algorithm
from dgpo.config import Config
from dgpo.models.attention import training_attention
from dgpo.models.holding import BYTES
from dgpo.models.pipeline_model import TEXT_ENCODER, PipelineModel, networks_of
from dgpo.plan import drawn_at_once, images_of_a_rank, learned_at_once, states_kept, weights_kept
from dgpo.policy import Policy
from dgpo.precision import Quantize
from dgpo.rollout import may_merge
from dgpo.windows import kind_of_noise

CUDA_ITSELF = 3 * 2**29
"""What the driver, its libraries and their workspaces take on a GPU, about."""
PYTHON_ITSELF = 2**30
"""What a process with torch and diffusers takes before it has a model, about."""
TO_BE_FILLED = 0.85
"""The share of a device's memory that a plan may count on: rewards, and what allocators leave unused, take the rest."""
FP32 = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stage:
    """What is taken for a while, beside what is held."""

    images: int
    """That are in it together."""
    size: int


class Footprint:
    """A rank's memory in a training: `held` all the time, by what holds it, and `stages`, one of which is at a time."""

    def __init__(self, model: PipelineModel, config: Config, *, ranks: int, gpu: bool) -> None:
        """
        Args:
            model: an `outline`.
            config: its precision is settled.
            gpu: norms and attention as CUDA has them, and text encoders that wait in host memory.
        """
        self.model, self.config, self.gpu = model, config, gpu
        self.policy = Policy(model, config.training, seed=config.seed)
        for name in weights_kept(config):
            self.policy.keep(name)
        encoders, network, others = _sizes(model)
        trained = sum(tensor.nbytes for tensor in self.policy.parameters)
        self.held = {
            "network": network - trained - _saved_by(model, config.training.quantize),
            "adapters" if config.training.method == "lora" else "trained weights": trained,
            "copies of them": trained * len(self.policy.snapshots),
            "gradients": trained,
            "optimiser": 2 * trained,  # both averages of AdamW
            "autoencoder": others,
            **({} if gpu else {"text encoders": encoders}),
            "latents": _latents(model, config, ranks) * (1 + config.rollout.ahead),
            "CUDA" if gpu else "Python": CUDA_ITSELF if gpu else PYTHON_ITSELF,
        }
        if gpu and config.training.dtype != "fp32":
            _norms_in_fp32(model.transformer)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self.mode:
            _fill(self.policy, model)
        self._ranks, self._encoders, self._trained = ranks, encoders, trained
        self._known: dict[tuple[str, int, bool], Stage] = {}

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Of an iteration, as it is cut."""
        draws, learns = drawn_at_once(self.config, self._ranks), learned_at_once(self.config, self._ranks)
        return {
            **({"reading prompts": Stage(1, self._reading(self._encoders))} if self.gpu else {}),
            "drawing": self.stage("drawing", draws),
            "decoding": self.stage("decoding", draws),
            "learning": self.stage("learning", learns),
            "updating": Stage(1, self._trained),  # gradients once more, in one message to the other ranks
        }

    def _reading(self, encoders: int) -> int:
        """Text encoders beside the network or, where it waits in host memory meanwhile, in its place."""
        return max(0, encoders - self.held["network"]) if self.config.training.offload else encoders

    def saved_by(self, quantize: Quantize) -> int:
        """Bytes that the network's frozen linear layers would take less in fewer bits."""
        return _saved_by(self.model, quantize)

    @property
    def held_in_all(self) -> int:
        return sum(self.held.values())

    @property
    def largest(self) -> str:
        """The stage that takes most."""
        return max(self.stages, key=lambda name: self.stages[name].size)

    @property
    def most(self) -> int:
        """What is taken in that stage, with what is held."""
        return self.held_in_all + self.stages[self.largest].size

    def settle_checkpointing(self, room: int) -> str:
        """Choose `training.checkpointing` for a device of so many bytes; a sentence with what decided it."""
        images = self.stages["learning"].images
        kept = self.held_in_all + self.stage("learning", images, checkpointing=False).size
        recomputes = kept > room * TO_BE_FILLED
        training = self.config.training.model_copy(update={"checkpointing": recomputes})
        self.config = self.config.model_copy(update={"training": training})
        vars(self).pop("stages", None)
        word = "recomputed in the backward pass" if recomputes else "kept for the backward pass"
        return (
            f"activations are {word} (training.checkpointing={str(recomputes).lower()}): with all of them learning "
            f"takes about {kept / 2**30:.1f} GiB, of {room / 2**30:.1f}"
        )

    def stage(self, name: str, images: int, *, checkpointing: bool | None = None) -> Stage:
        """What drawing, decoding or learning takes with so many images at a time."""
        on = self.config.training.checkpointing is True if checkpointing is None else checkpointing
        key = name, images, on
        if key not in self._known:
            runs = {"drawing": self._draw, "decoding": self._decode, "learning": partial(self._learn, on)}
            with self.mode, Allocations() as allocations:
                runs[name](images)
            self._known[key] = Stage(images, allocations.peak)
        return self._known[key]

    def fitting(self, name: str, room: int, *, checkpointing: bool | None = None) -> int:
        """How many images at a time fit into `room` in a stage; each takes as much as another."""
        asked, few = self.stages[name].images, 2
        one, two = (self.stage(name, images, checkpointing=checkpointing).size for images in (1, few))
        return max(0, min(asked, 1 + (room - one) // max(1, two - one)))

    def _draw(self, images: int) -> None:
        noisy = kind_of_noise(self.config.rollout, self._needs) != "none"
        merges = may_merge(self.policy, self.config, self._needs)
        with torch.no_grad(), training_attention(CPU) if noisy and not self.gpu else nullcontext():
            merged = self.policy.merge("current") if merges else None
            with self.policy.drawing_with("current", merged):
                self._ask(images, self.config.sampling.guidance)

    def _decode(self, images: int) -> None:
        with torch.no_grad():
            self.model.to_pixels(self._noise(images))

    def _learn(self, checkpointing: bool, images: int) -> None:
        """Forward and back, as an algorithm does for a micro-batch at one time."""
        network = self.model.transformer
        (network.enable_gradient_checkpointing if checkpointing else network.disable_gradient_checkpointing)()
        guidance = self.config.sampling.guidance if self._needs.trajectory else None
        with nullcontext() if self.gpu else training_attention(CPU):
            self._ask(images, guidance).square().mean().backward()

    def _ask(self, images: int, guidance: float | None) -> torch.Tensor:
        x_BCHW, rows, sigma_B = self._noise(images), self.model.blank(images), torch.empty(images)
        return self.policy.velocity("current", x_BCHW, sigma_B, rows, guidance=guidance, purpose="current")

    def _noise(self, images: int) -> torch.Tensor:
        sampling = self.config.sampling
        return torch.empty(images, *self.model.latent_shape(sampling.height, sampling.width))

    @property
    def _needs(self) -> Needs:
        return find_algorithm(self.config.algorithm).needs(self.config.learning)


def _sizes(model: PipelineModel) -> tuple[int, int, int]:
    """Of text encoders, of the trained network, and of all other networks."""
    sizes = [0, 0, 0]
    for name, part in model.pipeline.components.items():
        tensors = (*part.parameters(), *part.buffers())
        place = 0 if name.startswith(TEXT_ENCODER) else 1 if name == model.network else 2
        sizes[place] += sum(tensor.nbytes for tensor in tensors)
    return sizes[0], sizes[1], sizes[2]


def _saved_by(model: PipelineModel, quantize: Quantize) -> int:
    if quantize == "none":
        return 0
    layers = [one for one in model.transformer.modules() if isinstance(one, torch.nn.Linear)]
    frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
    return int(sum(weight.nbytes - weight.numel() * BYTES[quantize] for weight in frozen))


def _latents(model: PipelineModel, config: Config, ranks: int) -> int:
    """Of a rank's images, with the trajectories that lead to them where an algorithm learns from those."""
    shape = model.latent_shape(config.sampling.height, config.sampling.width)
    return images_of_a_rank(config, ranks) * (states_kept(config) or 1) * torch.Size(shape).numel() * FP32


def _fill(policy: Policy, model: PipelineModel) -> None:
    """Fake tensors in place of the outline's, each with a gradient where it is trained."""
    for part in networks_of(model.pipeline, encoders=False):  # text encoders are not run
        for module in part.modules():
            for name, tensor in module._parameters.items():
                if tensor is not None:
                    module._parameters[name] = torch.nn.Parameter(_like(tensor), tensor.requires_grad)
            for name, tensor in module._buffers.items():
                if tensor is not None:
                    module._buffers[name] = _like(tensor)
    policy.trained = {name: one for name, one in model.transformer.named_parameters() if one.requires_grad}
    for parameter in policy.parameters:
        parameter.grad = _like(parameter)
    for name in policy.snapshots:
        policy.keep(name)
    model.empty = model.blank(1)


def _like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


class Allocations(TorchDispatchMode):
    """Counts the bytes that tensors take while it is entered: `peak` is the most at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given | self.alive:  # else it is a view
                self._count(storage, storage._cdata)
        return result

    def _count(self, storage: torch.UntypedStorage, key: int) -> None:
        self.alive.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _norms_in_fp32(network: torch.nn.Module) -> None:
    """As CUDA's autocast computes them, and the CPU's does not."""
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm):
            module.float().register_forward_pre_hook(lambda _, inputs: tuple(one.float() for one in inputs))
