"""The model that is trained, and the same network under other weights: its reference, old policy and average.

One network is in memory. Other weights are named snapshots of the trained tensors alone (the LoRA matrices, or all of
the transformer under full fine-tuning), put in place for one call by `torch.func.functional_call`; nothing is swapped
back, so nothing can be left swapped. The reference of a LoRA policy is the network with its adapters off and costs no
memory.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dgpo.models.model import Conditioning, Model
from dgpo.precision import describe_parts, dtype_of
from dgpo.sections import Training
from rewards.errors import UsageError

if TYPE_CHECKING:  # PEFT takes seconds to import, and most commands have no adapters
    from peft import LoraConfig

Who = str
"""Whose weights: `current`, `reference`, or a snapshot by its name (`old`, `average`, or an algorithm's own)."""
Purpose = str
"""What a pass is counted as: `rollout`, `current`, `backward`, or whose prediction it is."""
ADAPTER = "policy"
REFERENCE: Who = "reference"


class Policy:
    """Velocities of the trained model and of its relatives, counted by purpose."""

    def __init__(self, model: Model, training: Training, *, seed: int = 0, trainable: bool = True):
        """`trainable=False` leaves the model as it is, for drawing only: `current` is then the base model."""
        self.model = model
        self.training = training
        self.dtype = dtype_of(training.dtype)
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.snapshots: dict[str, dict[str, torch.Tensor]] = {}
        self.passes: Counter[str] = Counter()
        self._merged: dict[Who, dict[str, torch.Tensor]] = {}
        self.published: Who = "current"
        """Whose weights a checkpoint publishes, and evaluations and samples of a training are drawn with."""
        if trainable:
            self._make_trainable(seed)

    def _make_trainable(self, seed: int) -> None:
        """Add the adapters, or free the transformer's own weights; what is trained is held in fp32."""
        transformer = self.model.transformer
        if self.training.method == "lora":
            torch.manual_seed(seed)
            self._check_modules()
            transformer.add_adapter(lora_config(self.training, self.model.lora_targets), adapter_name=ADAPTER)
        else:
            transformer.requires_grad_(True)
        if self.training.checkpointing is True:
            transformer.enable_gradient_checkpointing()
        self.trained = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()
        if self.training.method == "full":
            self.keep(REFERENCE)

    def _check_modules(self) -> None:
        """UsageError for one of `training.modules` that would be left out, or that no adapter fits."""
        layers = dict(self.model.transformer.named_modules())
        for wanted in self.training.modules:
            found = [layers[name] for name in layers if name == wanted or name.endswith(f".{wanted}")]
            if not found or not all(isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) for layer in found):
                known = ", ".join(self.model.lora_targets)
                raise UsageError(
                    f"training.modules: the transformer has no layer with weights called {wanted}; adapters are for "
                    f"linear layers, for instance {known}."
                )

    @property
    def precision(self) -> str:
        """In which the model's networks compute, as a record of its images says it."""
        training = self.training
        held = "" if training.quantize == "none" else f" of {training.quantize} weights"
        return describe_parts({**self.model.precisions, "transformer": f"{training.dtype}{held}"})

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.trained.values())

    def keep(self, name: Who) -> None:
        """Copy the trained tensors as they are now under `name`."""
        self.snapshots[name] = self.copy_of("current")

    def copy_of(self, who: Who) -> dict[str, torch.Tensor]:
        """The trained tensors of `who` as they are now; those of the reference of adapters are none of its own."""
        source = self.snapshots.get(who, self.trained)
        return {key: tensor.detach().clone() for key, tensor in source.items()}

    @torch.no_grad()
    def follow(self, name: Who, decay: float) -> None:
        """snapshot = decay * snapshot + (1 - decay) * trained."""
        for key, average in self.snapshots[name].items():
            average.lerp_(self.trained[key].detach(), 1 - decay)

    def velocity(
        self,
        who: Who,
        x_BCHW: torch.Tensor,
        sigma_B: torch.Tensor,
        conditioning: Conditioning,
        *,
        guidance: float | None = None,
        purpose: Purpose,
    ) -> torch.Tensor:
        """The prediction at (x, t, prompt) in fp32 by `who`; its passes through the network are counted by purpose."""
        self.passes[purpose] += len(x_BCHW) * self.model.passes(guidance)
        autocast = torch.autocast(x_BCHW.device.type, self.dtype, enabled=self.dtype != torch.float32)
        merged = self._merged.get(who)
        off = merged is not None or (who == REFERENCE and self.training.method == "lora")
        with autocast, self._adapters_off() if off else nullcontext():
            weights = merged or (None if self._is_in_place(who) else self.snapshots[who])
            return self.model.velocity(x_BCHW, sigma_B, conditioning, guidance=guidance, weights=weights)

    @contextmanager
    def drawing_with(self, who: Who, merged: "Merged | None") -> Iterator[None]:
        """Meanwhile `who` is asked by its merged weights, if there are some; nothing is put in place or taken away."""
        if merged is not None:
            self._merged[who] = merged.weights
        try:
            yield
        finally:
            self._merged.pop(who, None)

    @torch.no_grad()
    def merge(self, who: Who) -> "Merged":
        """The weights of adapted layers with what the adapters of `who` add, W + alpha / rank B A, for drawing.

        Sums are taken in fp32 and rounded once to the precision of W.
        """
        weights, added, lost = {}, torch.zeros(()), torch.zeros(())
        for name, layer in adapted_layers(self.model.transformer).items():
            one, other = (self._adapter(who, f"{name}.lora_{side}.{ADAPTER}.weight") for side in "AB")
            frozen, change = layer.base_layer.weight, layer.scaling[ADAPTER] * (other @ one)
            merged = (frozen.float() + change).to(frozen.dtype)
            weights[f"{name}.base_layer.weight"] = merged
            added = added.to(change) + change.square().sum()
            lost = lost.to(change) + (merged.float() - frozen.float() - change).square().sum()
        return Merged(weights, (lost / added.clamp(min=torch.finfo(added.dtype).tiny)).sqrt())

    def _adapter(self, who: Who, name: str) -> torch.Tensor:
        return self.trained[name].detach() if who == "current" else self.snapshots[who][name]

    def _is_in_place(self, who: Who) -> bool:
        """Whether the network itself is `who`, with its adapters on or off; all others are snapshots."""
        return who == "current" or (who == "reference" and self.training.method == "lora")

    @contextmanager
    def _adapters_off(self) -> Iterator[None]:
        self.model.transformer.disable_adapters()
        try:
            yield
        finally:
            self.model.transformer.enable_adapters()

    def published_weights(self, who: Who) -> dict[str, torch.Tensor]:
        """A copy of the weights of `who` as its file holds them: LoRA matrices by PEFT's names, or the transformer."""
        state = dict(self.model.transformer.state_dict())
        state.update({key: p.detach() for key, p in self.trained.items()} if who == "current" else self.snapshots[who])
        if self.training.method == "lora":
            from peft import get_peft_model_state_dict

            state = get_peft_model_state_dict(self.model.transformer, state_dict=state, adapter_name=ADAPTER)
        return {key: on_host(tensor) for key, tensor in state.items()}

    def load_published(self, weights: dict[str, torch.Tensor]) -> None:
        """Take over weights in the form of `published_weights`; `UsageError` where names or shapes are others."""
        expected = {name: tensor.shape for name, tensor in self.published_weights("current").items()}
        present = {name: tensor.shape for name, tensor in weights.items()}
        if expected != present:
            names = ", ".join(sorted({name for name, _ in expected.items() ^ present.items()})[:3])
            raise UsageError(f"The weights do not belong to this model: they differ in {names}.")
        if self.training.method == "lora":
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.model.transformer, weights, adapter_name=ADAPTER)
        else:
            self.model.transformer.load_state_dict(weights)


@dataclass(frozen=True)
class Merged:
    """Weights of adapted layers with their adapters added, by the network's names."""

    weights: dict[str, torch.Tensor]
    lost: torch.Tensor
    """How much rounding has changed what was added: |W' - W - BA| / |BA| over all layers, with BA scaled; a scalar.

    Small updates to large weights in bf16 vanish (1), and come to be felt as they grow.
    """


def adapted_layers(network: torch.nn.Module) -> dict[str, Any]:
    """The layers of a network that have adapters, by name."""
    return {name: layer for name, layer in network.named_modules() if hasattr(layer, "lora_A")}


def can_merge(network: torch.nn.Module, training: Training) -> bool:
    """Whether all adapters of a network can be added to its weights: those of linear layers that are held whole."""
    layers = adapted_layers(network).values()
    plain = all(isinstance(layer.base_layer, torch.nn.Linear) for layer in layers)
    return training.method == "lora" and training.quantize == "none" and plain


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in host memory, which nothing changes any more."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def lora_config(training: Training, targets: tuple[str, ...]) -> "LoraConfig":
    """The adapters of a training; `targets` are the family's own layers for them."""
    from peft import LoraConfig

    return LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        init_lora_weights="gaussian",
        target_modules=list(training.modules or targets),
    )
