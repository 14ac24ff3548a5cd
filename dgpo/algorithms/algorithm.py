"""What a learning algorithm is to the loop, and the table of them.

An algorithm is one file: its settings, what it needs, what it costs, and how it learns from a batch. It knows neither
config, loop nor model family; a row of `ALGORITHMS` makes it a choice of `--algorithm`.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dgpo.sections import Advantage, Sampling, Section
from rewards.errors import UsageError, suggestion

if TYPE_CHECKING:
    from dgpo.batch import Batch
    from dgpo.parallel import Ranks
    from dgpo.policy import Policy

# name -> "module:Class", imported when it is chosen; a class itself may stand there too.
ALGORITHMS: dict[str, "str | type[Algorithm]"] = {
    "dgpo": "dgpo.algorithms.dgpo:DGPO",
}


class Needs(NamedTuple):
    """What has to be there beside the trained weights."""

    snapshots: frozenset[str] = frozenset()
    """Weights kept beside the trained ones, by name (`old`); the reference is always at hand."""
    sampler: str = "ode"
    """The kind of sampler that the rollout has to use: `ode` (any deterministic one) or `sde`."""
    trajectory: bool = False
    """States and log-probabilities of every step of the rollout."""


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

    @classmethod
    def needs(cls, settings: Any) -> Needs:
        """What the settings ask for."""
        return Needs()

    @classmethod
    @abstractmethod
    def passes(
        cls, settings: Any, sampling: Sampling, *, cost: Callable[[float], int], live_share: float
    ) -> dict[str, float]:
        """Transformer passes per image of one iteration, by purpose: `rollout`, `current`, `backward` and others.

        Args:
            cost: how many passes one velocity at a guidance takes, which the model family knows (`Model.passes`).
            live_share: the share of groups that have reward variance, where others are skipped.
        """

    @classmethod
    def check_times(cls, settings: Any, times: list[float]) -> None:
        """UsageError where the times that a rollout visits (sigma, first to last) are not enough to learn from."""
        return

    @abstractmethod
    def learn(self, batch: "Batch", step: int, update: Callable[[], None]) -> dict[str, Any]:
        """Leave gradients and call `update` for each optimiser step; returns the metrics of this iteration."""

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
