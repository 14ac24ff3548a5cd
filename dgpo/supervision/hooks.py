"""Hooks: everything about a training that is not learning, each at its moments and all in one order.

The moments of a run, in this order: `begin` once, before anything is drawn (also of a run that goes on); in each
iteration `scored`, when all scores are there and nothing was learned from them yet, and `ended`. `saving` comes before
a checkpoint is written: a hook that raises there prevents it.

At each moment the hooks are asked in this order, on every rank (before all others, where `rollout.ahead` is on, the
source that is ahead, so that a checkpoint knows what is in flight):

1. canaries: scores that changed are noticed before a checkpoint holds what they have taught;
2. alarms: rewards that are stuck, and rising failures;
3. checkpoints: so that whatever ends the run from here on finds it saved;
4. samples, then the held-out evaluation, drawn and scored by all ranks;
5. the curve, which shows both;
6. guards, which judge the evaluation and may end the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewards.errors import SetupError

if TYPE_CHECKING:
    import torch

    from dgpo.trainer import Trainer

ORDER = ("canaries", "alarms", "checkpoints", "samples", "evaluation", "curve", "guards")


@dataclass(frozen=True)
class Moment:
    """The end of an iteration, or the beginning of a run's part."""

    step: int
    """Iterations done."""
    last: bool
    """No iteration follows, as all that were asked for are done."""
    saves: bool
    """A checkpoint of this state is there or is written now."""


@dataclass(frozen=True)
class Scores:
    """What an iteration's images were worth: parts_RKG in the rewards' units, and why some are missing."""

    parts_RKG: "torch.Tensor"
    described: Mapping[str, Any]
    failures: Sequence[str]


class Hook:
    """Does nothing at any moment; a hook overrides those that it is for."""

    def begin(self, training: "Trainer", moment: Moment) -> None:
        """Nothing was drawn in this part of the run."""

    def scored(self, training: "Trainer", scores: Scores) -> None:
        """All ranks' scores are there, and nothing was learned from them."""

    def ended(self, training: "Trainer", moment: Moment) -> None:
        """An iteration was learned from and recorded."""

    def saving(self, training: "Trainer") -> None:
        """A checkpoint is about to be written."""


def due(step: int, every: int) -> bool:
    """Whether something that comes once in so many iterations comes now; 0 is never."""
    return every > 0 and step % every == 0


def end_for_lack_of_look(training: "Trainer", moment: Moment, problem: str | None) -> None:
    """End the run, saved, where samples or evaluation cannot be made on some rank; every rank says its `problem`.

    Raises:
        SetupError: on every rank, when one of them has a problem.
    """
    problems = [one for one in training.ranks.gather([problem]) if one is not None]
    if not problems:
        return
    if moment.step == 0:
        raise SetupError(f"{problems[0]} Nothing has been learned yet.")
    if not moment.saves:
        training.save()
    training.stop(f"The evaluation at step {moment.step} cannot be made: {problems[0]}", "mend the cause", saved=True)
