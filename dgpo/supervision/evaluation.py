"""The held-out evaluation of a run, every so often, by all ranks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from dgpo.supervision.hooks import Hook, Moment, due, end_for_lack_of_look
from rewards.errors import DgpoError

if TYPE_CHECKING:
    from dgpo.policy import Policy
    from dgpo.trainer import Trainer

Measured = dict[str, dict[str, float | int | None]]
Figures = Callable[[int], dict[str, float | None]]


class Measure(Protocol):
    """Measures a policy at a step; called on all ranks at once, and says the same on all.

    For each reward's key its mean with the 95 % interval, how many images failed, and of how many prompts.
    """

    def __call__(self, step: int, policy: "Policy", /) -> Measured: ...


class HeldOut(Hook):
    """Measures at step 0, whenever it is due, and at the end, unless an earlier part has done so from the same weights.

    Args:
        figures: gives, on the main rank, the figures of the images that were drawn at a step.
    """

    def __init__(self, every: int, measure: Measure, figures: Figures | None = None) -> None:
        self.every, self.measure, self.figures = every, measure, figures

    def begin(self, training: "Trainer", moment: Moment) -> None:
        self.ended(training, moment)

    def ended(self, training: "Trainer", moment: Moment) -> None:
        if not training.ranks.gather([training.ranks.main and self._wanted(training, moment)])[0]:
            return
        problem = None
        try:
            record: dict[str, Any] = {"step": moment.step, "evaluation": self.measure(moment.step, training.policy)}
            if training.ranks.main:
                if self.figures is not None:
                    record["pictures"] = self.figures(moment.step)
                training.run.record(record)
        except DgpoError as error:
            problem = str(error)
        end_for_lack_of_look(training, moment, problem)

    def _wanted(self, training: "Trainer", moment: Moment) -> bool:
        if not (moment.step == 0 or moment.last or due(moment.step, self.every)):
            return False
        lines = training.run.read_metrics()
        return not any("evaluation" in line and line["step"] == moment.step for line in lines)
