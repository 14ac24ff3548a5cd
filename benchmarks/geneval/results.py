"""GenEval's numbers of one evaluation, from its scores alone.

Images that could not be judged are in no accuracy; they are counted a task. Intervals take the prompt as the unit of
chance and the six tasks as fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.geneval.accuracy import MEASURED, TASKS, Judged, TableRow, summarise_geneval
from benchmarks.harness.store import OK
from benchmarks.reading.stats import FEW, estimate_strata
from rewards.errors import UsageError
from rewards.numbers import format_number, in_brackets
from rewards.prompt import Prompt

OFFICIAL = "geneval-official"


@dataclass(frozen=True)
class TaskResult:
    """One task: `correct` of `images` judged ones, of so many `prompts`; `accuracy` is None where none was judged."""

    prompts: int
    images: int
    correct: int
    failed: int
    accuracy: float | None


@dataclass(frozen=True)
class GenEvalResult:
    """What one variant of the official verdict says of a model.

    `overall` is the unweighted mean of the six tasks' accuracies, None unless images of all six and of no other were
    judged; `stderr` and the 95 % interval are its own, None where a task has a single prompt.
    """

    reward: str
    tasks: Mapping[str, TaskResult]
    overall: float | None
    stderr: float | None
    ci_low: float | None
    ci_high: float | None

    @property
    def images(self) -> int:
        return sum(task.images for task in self.tasks.values())

    @property
    def failed(self) -> int:
        return sum(task.failed for task in self.tasks.values())

    @property
    def fewest(self) -> int:
        """Prompts of the task that has fewest; below stats.FEW the interval is one of few prompts."""
        return min(task.prompts for task in self.tasks.values())


def tags_of(prompts: Iterable[Prompt]) -> dict[str, str]:
    """The task of each prompt, by the prompt's id; prompts that are no GenEval records are left out."""
    return {prompt.id: prompt.spec["tag"] for prompt in prompts if isinstance(prompt.spec.get("tag"), str)}


def tabulate(rows: Iterable[Any], tag_of: Mapping[str, str], reward: str) -> GenEvalResult:
    """Accuracy a task and overall by one official verdict, for instance of `geneval-official@1`.

    `rows` are those of scores.csv: as `read_rows` gives them, or as `load_scores(folder).itertuples()` does.

    Raises UsageError if there is no row of that reward, or one of a prompt without a task.
    """
    rows = [row for row in rows if row.reward == reward]
    if not rows:
        raise UsageError(f"There is no score of {reward} to make GenEval's table from.")
    strange = sorted({row.prompt_id for row in rows} - set(tag_of))
    if strange:
        raise UsageError(f"The scores of {reward} hold prompts whose task is not known, such as {strange[0]}.")
    by_tag: dict[str, list[Any]] = {}
    for row in rows:
        by_tag.setdefault(tag_of[row.prompt_id], []).append(row)
    tags = [*(tag for tag in TASKS if tag in by_tag), *(tag for tag in by_tag if tag not in TASKS)]
    tasks = {tag: _count(by_tag[tag]) for tag in tags}
    judged = [Judged(tag_of[row.prompt_id], row.prompt_id, row.score == 1) for row in rows if row.status == OK]
    summary = summarise_geneval(judged) if judged else None
    if summary is None or not summary.complete:
        return GenEvalResult(reward, tasks, None, None, None, None)
    by_task = [_by_prompt([one for one in judged if one.tag == tag]) for tag in summary.tasks]
    spread = estimate_strata(by_task, (0.0, 1.0))
    uncertainty = [None if math.isnan(value) else value for value in (spread.stderr, spread.ci_low, spread.ci_high)]
    return GenEvalResult(reward, tasks, summary.overall, *uncertainty)


def table_row(model: str, result: GenEvalResult) -> TableRow:
    """The model's line of a paper's table; its overall is left open unless all six tasks were judged."""
    interval = None
    if result.ci_low is not None and result.ci_high is not None:
        interval = (result.ci_low, result.ci_high)
    shares = {tag: result.tasks[tag].accuracy if tag in result.tasks else None for tag in TASKS}
    return TableRow(model, MEASURED, result.overall, shares, result.images, result.failed, interval)


def tell_overall(result: GenEvalResult) -> str:
    """The overall with its interval in a sentence, or why there is none; and how many images are in no number.

    >>> tell_overall(GenEvalResult("geneval-official@1", {"colors": TaskResult(1, 4, 3, 0, 0.75)}, *[None] * 4))
    'GenEval overall by geneval-official@1: none, as no image was judged of single_object, two_object, counting, \
position, color_attr.'
    """
    start = f"GenEval overall by {result.reward}: "
    if result.overall is not None:
        known = result.ci_low is not None and result.ci_high is not None
        overall = in_brackets(f"{result.overall:.5f}", *map(format_number, (result.ci_low, result.ci_high)))
        if known and result.fewest < FEW:
            overall += f" (tasks of as few as {result.fewest} prompts)"
        text = f"{start}{overall}, the unweighted mean of the six tasks."
    else:
        absent = [tag for tag in TASKS if tag not in result.tasks or not result.tasks[tag].images]
        why = f"no image was judged of {', '.join(absent)}" if absent else "there are tasks besides the six"
        text = f"{start}none, as {why}."
    if result.failed:
        by_task = ", ".join(f"{task.failed} of {tag}" for tag, task in result.tasks.items() if task.failed)
        text += f" {result.failed} images could not be judged and are in no number: {by_task}."
    return text


def _count(rows: Sequence[Any]) -> TaskResult:
    judged = [row for row in rows if row.status == OK]
    correct = sum(row.score == 1 for row in judged)
    prompts = len({row.prompt_id for row in judged})
    return TaskResult(prompts, len(judged), correct, len(rows) - len(judged), correct / len(judged) if judged else None)


def _by_prompt(judged: Sequence[Judged]) -> np.ndarray:
    """One value a prompt, whose mean is the accuracy over images.

    Where all prompts have equally many images it is the prompt's own accuracy. Otherwise the accuracy is a ratio of
    sums, and this its linearisation: a + (correct - a * images) / mean images, with a the accuracy over all.
    """
    _, index = np.unique([one.prompt for one in judged], return_inverse=True)
    correct_N = np.array([one.correct for one in judged], dtype=np.float64)
    images_P = np.bincount(index)
    accuracy = correct_N.mean()
    return accuracy + (np.bincount(index, weights=correct_N) - accuracy * images_P) / images_P.mean()
