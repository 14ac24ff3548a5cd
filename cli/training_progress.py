"""What `dgpo train` shows while it works, and how it hears that it is to stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cli.launch import LAUNCHER, signals_to_heed
from cli.progress import Progress
from cli.screen import leave_terminal
from dgpo.supervision.hooks import Hook, Moment
from rewards.numbers import format_number

if TYPE_CHECKING:
    from dgpo.config import Config
    from dgpo.trainer import Trainer


WORTH_SAYING = 0.25  # of an iteration's time


class TrainingProgress(Hook):
    """The bar of a training with the metrics that its algorithm shows; of several processes the main one speaks."""

    def __init__(self, config: Config, *, speaks: bool) -> None:
        from dgpo.algorithms.algorithm import find_algorithm

        self.shown = find_algorithm(config.algorithm).shown
        stream = sys.stderr if speaks else open(os.devnull, "w")  # noqa: SIM115  (lives as long as the process)
        self.progress = Progress("training", config.steps, unit="iterations", stream=stream)

    def __enter__(self) -> TrainingProgress:
        self.progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.__exit__(*error)

    def begin(self, training: Trainer, moment: Moment) -> None:
        """The time that is left is judged by iterations alone, those of this part of the run."""
        self.progress.begin(moment.step)

    def say(self, sentence: str) -> None:
        self.progress.say(sentence)

    def show(self, metrics: dict[str, Any]) -> None:
        self.progress.update(metrics["step"], summarise(metrics, self.shown))


def summarise(metrics: dict[str, Any], shown: Any) -> str:
    """Reward, spread, dead groups, the parts of a mix, what the algorithm shows, and where the time went."""
    seconds = metrics["seconds"]
    failed = f", {metrics['failed']} failed" if metrics["failed"] else ""
    parts = metrics["rewards"] if len(metrics["rewards"]) > 1 else {}
    mixed = "".join(f", {key} {format_number(mean)}" for key, mean in parts.items())
    learned = "".join(f", {name} {metrics[name]:{form}}" for name, form in shown.items())
    return (
        f"reward {metrics['reward']:.3f} (spread {metrics['spread']:.3f}, dead groups {metrics['dead_groups']:.0%}"
        f"{failed}){mixed}{learned}, "
        f"draw/score/learn {seconds['draw']:.1f}/{seconds['score']:.1f}/{seconds['learn']:.1f} s{_waited_for(metrics)}"
    )


def _waited_for(metrics: dict[str, Any]) -> str:
    """The slowest reward, where waiting for scores is a good part of an iteration: more workers would mend it."""
    seconds, taken = metrics["seconds"], metrics.get("scoring_seconds")
    if not taken or seconds["score"] < WORTH_SAYING * sum(seconds.values()):
        return ""
    slowest = max(taken, key=lambda key: taken[key])
    return f", waiting for {slowest} ({taken[slowest]:.2g} s an image)"


def ask_to_stop(say: Callable[[str], None]) -> Callable[[], bool]:
    """Whether a stop was asked for. The first Ctrl-C (or SIGTERM, or a closed terminal) asks for one after this
    iteration; the same again ends at once, but for terminals, whose end is told twice."""
    heard: set[int] = set()

    def ask(number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        elif number in heard:
            raise KeyboardInterrupt
        heard.add(number)
        if number == signal.SIGTERM and LAUNCHER in os.environ:
            return  # another process has failed, which is said when all have ended
        say("finishing this iteration, then saving (Ctrl-C again stops at once, without saving)")

    for number in signals_to_heed():
        signal.signal(number, ask)
    return lambda: bool(heard)
