"""A source that is one batch ahead: the next iteration is drawn before this one's scores are waited for.

So the device draws while rewards judge, and learns while they judge what was drawn next. The price is that each batch
comes of the weights as they were before the last learning: it is off policy by one iteration.
"""

from typing import TYPE_CHECKING

import torch

from dgpo.plan import AHEAD
from dgpo.policy import REFERENCE, Policy
from dgpo.rollout import Rollout
from dgpo.source import Drawn
from dgpo.supervision.hooks import Hook, Moment

if TYPE_CHECKING:
    from dgpo.trainer import Trainer


class Prefetch(Hook):
    """`draw` gives the batch of an iteration and begins the next one's; as the first of the hooks, it hears of the end.

    A checkpoint holds the weights that drew the batch in flight, so that a run that was stopped is to the last bit the
    run that it would have been.
    """

    def __init__(self, source: Rollout, policy: Policy, steps: int) -> None:
        self.source, self.policy, self.steps = source, policy, steps
        self._ready: tuple[int, Drawn] | None = None
        self._weights: dict[str, torch.Tensor] = {}

    def draw(self, step: int) -> Drawn:
        """The batch of iteration `step`; that of the one after it is being scored."""
        ready, self._ready = self._ready, None
        drawn = ready[1] if ready is not None and ready[0] == step else self._draw(step)
        self._weights = self.policy.copy_of(self.source.who(step + 1))
        if step + 1 < self.steps:
            begun, self.policy.snapshots[AHEAD] = self.policy.snapshots[AHEAD], self._weights
            try:
                self._ready = step + 1, self._draw(step + 1)
            finally:
                self.policy.snapshots[AHEAD] = begun  # until this iteration is learned from, it may be begun again
        return drawn

    def _draw(self, step: int) -> Drawn:
        who = self.source.who(step)
        return self.source.draw(step, who if who == REFERENCE else AHEAD)

    def ended(self, training: "Trainer", moment: Moment) -> None:
        """The iteration is learned from: what comes next is what was drawn ahead."""
        self.policy.snapshots[AHEAD] = self._weights
