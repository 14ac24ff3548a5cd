"""The periodic checkpoints of a run."""

from typing import TYPE_CHECKING

from dgpo.supervision.hooks import Hook, Moment

if TYPE_CHECKING:
    from dgpo.trainer import Trainer


class Checkpoints(Hook):
    """Saves where the loop says that this is due: now and then, at the end, and when a stop was asked for."""

    def ended(self, training: "Trainer", moment: Moment) -> None:
        if moment.saves:
            training.save()
