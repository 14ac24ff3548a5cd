"""Which training made an evaluated model, and where its run folder is: asked by curves, findings and tables alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.reading.results import Results

# By each of these a run folder is known, even one of which only a part was copied.
MARKS = ("config.yaml", "metrics.jsonl", "prompts.sha256")
EVALUATIONS = "evaluations"
# A results folder inside a run folder lies at most so many folders deep: RUN/evaluations/step-000010, RUN/eval/SUITE.
DEPTH = 3
_STEP = re.compile(r"step-(\d+)")


class TrainingRun(NamedTuple):
    """`folder` is where the run is, or where it was if it is not at hand any more; `step` 0 is the untrained model."""

    folder: Path
    step: int | None
    at_hand: bool


def find_training_run(results: Results) -> TrainingRun | None:
    """The run that made the model of a results folder; None for a base model, or images from elsewhere.

    A run is looked for where the record says that it was, and above the results folder, since what lies inside a run
    folder moves with it. What a run evaluates while it is trained names no run: there it is the folder above.
    """
    model = results.record.get("model")
    named = model.get("run") if isinstance(model, Mapping) else None
    folder = results.folder.resolve()
    if isinstance(named, str) and isinstance(model, Mapping):
        step = model.get("step")
        places = [Path(named), *list(folder.parents)[:DEPTH]]
        found = next((place for place in places if _is_run(place)), None)
        return TrainingRun(found or Path(named), step if isinstance(step, int) else None, found is not None)
    if folder.parent.name == EVALUATIONS and results.trained_on is not None:
        step = _STEP.fullmatch(folder.name)
        run = folder.parent.parent
        return TrainingRun(run, None if step is None else int(step[1]), _is_run(run))
    return None


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MARKS)
