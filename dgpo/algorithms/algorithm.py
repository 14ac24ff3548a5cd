"""What a learning algorithm is to the loop, and the table of them.

An algorithm is one file: its settings, what it needs, what it costs, and how it learns from a batch. It knows neither
config, loop nor model family; a row of `ALGORITHMS` makes it a choice of `--algorithm`.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from dgpo.sections import Advantage, Section
from rewards.errors import UsageError, suggestion

if TYPE_CHECKING:
    import torch

    from dgpo.batch import Batch
    from dgpo.parallel import Ranks
    from dgpo.policy import Policy

# name -> "module:Class", imported when it is chosen; a class itself may stand there too.
ALGORITHMS: dict[str, "str | type[Algorithm]"] = {
    "dgpo": "dgpo.algorithms.dgpo:DGPO",
    "diffusion-dpo": "dgpo.algorithms.diffusion_dpo:DiffusionDPO",
    "flow-grpo": "dgpo.algorithms.flow_grpo:FlowGRPO",
    "nft": "dgpo.algorithms.nft:NFT",
    "awm": "dgpo.algorithms.awm:AWM",
}


class Needs(NamedTuple):
    """What has to be there beside the trained weights, and how images are to be drawn."""

    snapshots: frozenset[str] = frozenset()
    """Weights kept beside the trained ones, by name (`old`); the reference is always at hand."""
    sampler: Literal["any", "ode", "sde"] = "any"
    """The kind of rollout that it can learn from: `ode` (without noise on the way) or `sde`."""
    trajectory: bool = False
    """States and log-probabilities of every stochastic step of the rollout."""
    means: bool = False
    """The means of these steps too."""
    errors: bool = True
    """How far off the network is from an image at some time, which tells nothing once it is distilled to few steps."""
    own_times: bool = False
    """Trained times beside the rollout's, up to pure noise."""
    guided: bool = False
    """Classifier-free guidance in learning, beside that of the rollout."""
    draws: str = "current"
    """Whose weights draw, where the config does not say otherwise."""


class Geometry(NamedTuple):
    """The sizes of an iteration that an algorithm reads."""

    groups: int
    """Prompts per iteration (K)."""
    group_size: int
    """Images per prompt (G)."""
    micro_batch: int
    """Images per backward pass on a rank."""
    seed: int

    @property
    def images(self) -> int:
        """Images per iteration, over all ranks."""
        return self.groups * self.group_size


class Planned(NamedTuple):
    """An iteration before it is run, as far as the passes of learning depend on it."""

    guidance: float
    """Of the rollout."""
    stochastic: int
    """How many steps of the rollout add noise."""
    group_size: int
    live_share: float
    """The share of groups that have reward variance, where others are skipped."""
    cost: Callable[[float], int]
    """How many passes one velocity at a guidance takes, which the model family knows (`Model.passes`)."""


class Algorithm(ABC):
    """Learns from batches of scored images; every rank holds one, and all learn the same."""

    summary: ClassVar[str]
    """One line, with the paper."""
    Settings: ClassVar[type[Section]]
    """Its section of the config, named like the algorithm (`dgpo.beta`)."""
    shown: ClassVar[Mapping[str, str]] = {}
    """Of the metrics that `learn` returns those in the line of progress, with their format (`{"kl": ".4f"}`)."""

    def __init__(
        self, settings: Any, *, advantage: Advantage, geometry: Geometry, policy: "Policy", ranks: "Ranks"
    ) -> None:
        self.settings, self.advantage, self.geometry = settings, advantage, geometry
        self.policy, self.ranks, self.path = policy, ranks, policy.model.path
        self._losses: list[tuple[torch.Tensor, torch.Tensor]] = []

    @classmethod
    def needs(cls, settings: Any) -> Needs:
        """What the settings ask for."""
        return Needs()

    @classmethod
    @abstractmethod
    def passes(cls, settings: Any, iteration: "Planned") -> dict[str, float]:
        """Transformer passes per image that learning makes, by purpose: `current`, `backward` and others."""

    @classmethod
    def check_times(cls, settings: Any, times: list[float]) -> None:
        """UsageError where the times that a rollout visits (sigma, first to last) are not enough to learn from."""
        return

    @abstractmethod
    def learn(self, batch: "Batch", step: int, update: Callable[[], None]) -> dict[str, Any]:
        """Leave gradients and call `update` for each optimiser step; returns the metrics of this iteration."""

    def standardise(self, batch: "Batch") -> "torch.Tensor":
        """The advantages of the batch's scores, as the config says; float64 [K, G]."""
        from dgpo.advantage import standardise, whiten

        assert batch.scores_KG is not None, "learning begins when all images are scored"
        settings = self.advantage
        if settings.gdpo:
            return whiten(batch.scores_KG, epsilon=settings.epsilon, clamp=settings.clamp)
        return standardise(batch.scores_KG, std=settings.std, epsilon=settings.epsilon, clamp=settings.clamp)

    def suspect(self, loss_B: "torch.Tensor", image_B: "torch.Tensor") -> None:
        """Remember the losses of these images: one that is not finite has a gradient that stops the run."""
        self._losses.append((loss_B.detach(), image_B))

    @property
    def suspects(self) -> list[int]:
        """Numbers of images of this rank whose loss was not finite in this iteration; looked at when asked for, since
        a look makes the host wait for the device."""
        return [number for loss_B, image_B in self._losses for number in image_B[~loss_B.isfinite()].tolist()]

    def forget_suspects(self) -> None:
        """An iteration begins."""
        self._losses.clear()

    def updated(self, updates: int) -> None:
        """What follows an optimiser step, the `updates`-th of the run: an old policy that is averaged, say."""
        return


def find_algorithm(name: str) -> type[Algorithm]:
    """The class of a name in the table.

    Raises:
        UsageError: there is no such algorithm.
    """
    if name not in ALGORITHMS:
        raise UsageError(f'There is no algorithm "{name}".{suggestion(name, ALGORITHMS)}')
    found = ALGORITHMS[name]
    if isinstance(found, str):
        module, _, kind = found.partition(":")
        found = getattr(importlib.import_module(module), kind)
    assert isinstance(found, type)
    return found


def section_of(name: str) -> str:
    """The section of the config with an algorithm's settings.

    >>> section_of("flow-grpo")
    'flow_grpo'
    """
    return name.replace("-", "_")
