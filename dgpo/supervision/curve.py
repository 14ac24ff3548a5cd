"""curve.png: training reward and held-out means against iterations."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgpo.supervision.hooks import Hook, Moment, due
from rewards.files import replace_file

if TYPE_CHECKING:
    from dgpo.trainer import Trainer


class Curve(Hook):
    """Draws the curve whenever samples or an evaluation are due, and at the end; by the main rank, beside the loop."""

    def __init__(self, *every: int) -> None:
        self.every = every

    def begin(self, training: "Trainer", moment: Moment) -> None:
        self.ended(training, moment)

    def ended(self, training: "Trainer", moment: Moment) -> None:
        if training.ranks.main and (moment.last or any(due(moment.step, every) for every in self.every)):
            lines, path = training.run.read_metrics(), training.run.folder / "curve.png"
            training.state.writer.hand(partial(draw_curve, lines, path))


def draw_curve(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training reward with its spread within groups, and held-out means with their intervals, against iterations."""
    from matplotlib.figure import Figure  # pyplot is for one thread only

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = [line for line in lines if line.get("reward") is not None]
    if steps:
        x, reward = [line["step"] for line in steps], [line["reward"] for line in steps]
        axes.plot(x, reward, color="0.6", linewidth=1, label="training reward")
        low, high = zip(
            *((line["reward"] - line["spread"], line["reward"] + line["spread"]) for line in steps), strict=True
        )
        axes.fill_between(x, low, high, color="0.9", label="spread within groups")
    prompts = {key: value.get("prompts") for line in lines for key, value in line.get("evaluation", {}).items()}
    for key, points in held_out_points(lines).items():
        x, mean, below, above = zip(*points, strict=True)
        count = f", {prompts[key]} prompts" if prompts[key] else ""
        label = f"held out: {key} (95 % interval{count})"
        axes.errorbar(x, mean, yerr=[below, above], marker="o", capsize=3, label=label)
    axes.set_xlabel("iteration")
    axes.set_ylabel("reward")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, dpi=120, format="png")
    replace_file(path, data.getvalue())


def held_out_points(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float, float, float]]]:
    """For each reward's key its evaluations: iteration, mean, and how far the interval reaches below and above it.

    An evaluation without any score is no point, and one without an interval (a single prompt) has no bar.
    """
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    for line in lines:
        for key, value in line.get("evaluation", {}).items():
            mean, low, high = (value[name] for name in ("mean", "ci_low", "ci_high"))
            if mean is not None:
                below, above = (0.0, 0.0) if low is None or high is None else (mean - low, high - mean)
                found.setdefault(key, []).append((line["step"], mean, below, above))
    return found
