"""How a run's rewards rose while it was trained, from the metrics.jsonl of its run folder.

Each line of metrics.jsonl is one iteration (`reward`, `rewards` by key, `seconds` by part) or one evaluation on prompts
held out (`evaluation`: mean and interval by reward key).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reading.results import Results
from benchmarks.reading.training_run import find_training_run
from rewards.files import read_json_lines

METRICS_FILE = "metrics.jsonl"
MOST_POINTS = 600


def training_curves(runs: Sequence[Results]) -> tuple[list[dict[str, Any]], list[str]]:
    """One curve a training run that is at hand, and a sentence for each evaluated model whose run is not.

    A curve: `name`, `evaluated` (the steps whose models are in this report), `rewards`: for each key `rollouts`, a list
    of [step, seconds, mean], and `held_out`, a list of [step, seconds, mean, low, high]. Seconds are those of drawing,
    scoring and learning summed up to that step, without evaluations; None where the run did not record them.
    """
    curves: dict[Path, dict[str, Any]] = {}
    notes = []
    for run in runs:
        found = find_training_run(run)
        if found is None:
            continue
        folder, step = found.folder, found.step
        if not (folder / METRICS_FILE).is_file():
            if step:
                notes.append(
                    f"{run.name}: the run folder {folder} is not at hand (no {METRICS_FILE}), so there is no training"
                    " curve."
                )
            continue
        if folder not in curves:
            rewards = read_curves(folder / METRICS_FILE)
            if not rewards:
                continue
            curves[folder] = {"name": folder.name, "evaluated": [], "rewards": rewards}
        if step is not None:
            curves[folder]["evaluated"].append([step, run.name])
    return list(curves.values()), notes


def read_curves(path: Path) -> dict[str, dict[str, list[list[float | None]]]]:
    """For each reward key its means over the rollouts of each iteration and over the held-out prompts.

    More than 600 iterations are averaged in groups of neighbours. A half-written last line ends the reading.
    """
    rollouts: dict[str, list[list[float | None]]] = {}
    held_out: dict[str, list[list[float | None]]] = {}
    seconds: float | None = 0.0
    for line in read_json_lines(path).whole:
        step = line.get("step")
        if not isinstance(step, int):
            continue
        spent = line.get("seconds")
        if isinstance(spent, Mapping):
            seconds = None if seconds is None else seconds + sum(_numbers(spent.values()))
        elif "reward" in line:
            seconds = None
        for key, mean in _mapping(line.get("rewards")).items():
            if isinstance(mean, int | float):
                rollouts.setdefault(key, []).append([step, seconds, mean])
        for key, found in _mapping(line.get("evaluation")).items():
            if isinstance(found, Mapping) and isinstance(found.get("mean"), int | float):
                held_out.setdefault(key, []).append(
                    [step, seconds, found["mean"], found.get("ci_low"), found.get("ci_high")]
                )
    keys = dict.fromkeys([*rollouts, *held_out])
    return {key: {"rollouts": thin(rollouts.get(key, [])), "held_out": held_out.get(key, [])} for key in keys}


def thin(points: Sequence[list[float | None]], most: int = MOST_POINTS) -> list[list[float | None]]:
    """At most `most` points, each the mean of as many neighbours; None in one makes the mean None.

    >>> thin([[1, 2.0, 0.5], [2, 4.0, 1.5], [3, 6.0, 1.0]], most=2)
    [[1.5, 3.0, 1.0], [3.0, 6.0, 1.0]]
    """
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [[_mean(column) for column in zip(*group, strict=True)] for group in groups]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _numbers(values: Any) -> list[float]:
    return [value for value in values if isinstance(value, int | float)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
