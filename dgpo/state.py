"""Where a run stands: its weights, their averages, the optimiser, and how far it has come; saved and restored."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from dgpo.checkpoint import Progress, restore_checkpoint, save_checkpoint, take_snapshot
from dgpo.config import Config
from dgpo.optimizer import Optimizer
from dgpo.parallel import Ranks
from dgpo.policy import Policy
from dgpo.run import Run
from dgpo.writer import Writer

SHOWN = 3


class State:
    """Every rank holds one, and all are alike; the main rank writes."""

    def __init__(self, config: Config, policy: Policy, run: Run, ranks: Ranks, note: Callable[[str], None]) -> None:
        self.averages, self.policy, self.run, self.ranks, self.note = config.averages, policy, run, ranks, note
        self.kept, self.writer = config.checkpoint.keep, Writer()
        self.optimizer = Optimizer(config.optimizer, policy.parameters, ranks)
        self.progress = Progress()

    def update(self) -> int:
        """One optimiser step; returns how many the run has made.

        Raises:
            NotFinite: the gradient is not finite, so no step was taken.
        """
        self.optimizer.step(self.progress.updates)
        self.progress = replace(self.progress, updates=self.progress.updates + 1)
        return self.progress.updates

    def end_iteration(self) -> None:
        """Count it, and move the evaluation average once in so many, whatever ranks and micro-batches there are."""
        step = self.progress.step + 1
        self.progress = replace(self.progress, step=step)
        if "average" in self.policy.snapshots and step % self.averages.evaluation_every == 0:
            self.policy.follow("average", min((1 + step) / (10 + step), self.averages.evaluation_decay))
        self._choose_published()

    def save(self) -> None:
        """Have a checkpoint of the state as it is written beside the loop; it is there after `finish`."""
        if self.ranks.main:
            taken = take_snapshot(self.policy, self.optimizer.adamw, self.progress)
            write = partial(save_checkpoint, self.run.checkpoints, self.policy, taken, keep=self.kept)
            self.writer.hand(write, large=True)
        if "average" in self.policy.snapshots and self.policy.published == "current":
            self.note(
                f"the checkpoint of step {self.progress.step} publishes the trained weights as they are: their "
                f"average first moves at iteration {self.averages.evaluation_every} (averages.evaluation_every)"
            )

    def finish(self) -> None:
        """All that was handed over is written. The others wait, as one that ends early ends the one that writes."""
        self.writer.wait()
        self.ranks.wait()

    def tell_not_finite(self, updates_before: int, images: Sequence[str]) -> str:
        """Why the run stops at a gradient that is not finite, of which images it may be, and where it stands then."""
        stands = "is saved at the iteration before"
        if self.progress.updates > updates_before:
            stands = "stands at its last checkpoint"
        whose = ""
        if images:
            more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
            whose = f"; the loss is not finite of image {', '.join(images[:SHOWN])}{more}"
        return (
            f"The gradient of iteration {self.progress.step + 1} is not finite, so no step was taken with it{whose}. "
            f"The run {stands}, and the same command would meet it again: give another --output with a lower "
            "optimizer.learning_rate, or with training.dtype fp32."
        )

    def restore(self) -> None:
        """The last whole checkpoint, if there is one; metrics of later iterations are forgotten."""
        path, notes = self.run.last_checkpoint() if self.ranks.main else (None, [])
        path = self.ranks.gather([path])[0]
        for sentence in notes:
            self.note(sentence)
        if path is not None:
            self.progress = restore_checkpoint(path, self.policy, self.optimizer.adamw)
            self._choose_published()
            self.note(f"continuing from {path} at step {self.progress.step}")
        if self.ranks.main:
            for sentence in self.run.cut_metrics(self.progress.step or -1):  # at step 0 the first look is taken again
                self.note(sentence)

    def _choose_published(self) -> None:
        """The average once it has moved: until then it is the untouched base, and the trained weights are published."""
        if "average" in self.policy.snapshots and self.progress.step >= self.averages.evaluation_every:
            self.policy.published = "average"
