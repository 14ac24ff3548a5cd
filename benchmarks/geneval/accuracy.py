"""GenEval's own summary: accuracy a task, their unweighted mean, and the row of a paper's table that they make.

Source: evaluation/summary_scores.py of github.com/djghosh13/geneval at af4902f24d3ca90ebbb446dd9891a59e0f82725f. The
"Overall" of every published table is the mean of the six tasks' accuracies, not the mean over images: the tasks have
80, 99, 80, 94, 100 and 100 prompts, with four images each.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.reading import published
from benchmarks.reading.markdown import render_markdown
from rewards.numbers import NONE, format_digits

TASKS = {
    "single_object": "Single object",
    "two_object": "Two object",
    "counting": "Counting",
    "colors": "Colors",
    "position": "Position",
    "color_attr": "Attribute binding",
}
PUBLISHED, MEASURED = "published", "measured"


@dataclass(frozen=True)
class Judged:
    """The official verdict on one image; `prompt` is whatever tells one prompt from another."""

    tag: str
    prompt: str
    correct: bool


@dataclass(frozen=True)
class TaskAccuracy:
    """How many of a task's images are correct."""

    correct: int
    images: int

    @property
    def share(self) -> float:
        return self.correct / self.images


@dataclass(frozen=True)
class GenEvalSummary:
    """The numbers of the official summary.

    `correct_prompts` counts the prompts with at least one correct image; `tasks` is in the order of first appearance.
    """

    images: int
    correct_images: int
    prompts: int
    correct_prompts: int
    tasks: Mapping[str, TaskAccuracy]

    @property
    def overall(self) -> float:
        """Unweighted mean of the accuracies of the tasks that were judged, in [0, 1]."""
        shares = [Fraction(task.correct, task.images) for task in self.tasks.values()]
        return float(sum(shares) / len(shares))

    @property
    def complete(self) -> bool:
        """Were images of all six tasks judged, and of no other? Only then is `overall` what papers report."""
        return set(self.tasks) == set(TASKS)


@dataclass(frozen=True)
class TableRow:
    """One model of the table: accuracies in [0, 1], None where not known.

    Of published rows are not known: how many `images` were judged, how many `failed` to be, and the 95 % `interval` of
    the overall.
    """

    model: str
    source: str
    overall: float | None
    tasks: Mapping[str, float | None]
    images: int | None = None
    failed: int | None = None
    interval: tuple[float, float] | None = None


def summarise_geneval(judged: Iterable[Judged]) -> GenEvalSummary:
    """Count the verdicts. Images that could not be judged are not among them, and have to be counted by the caller.

    Raises ValueError when there are none, as the mean of nothing is not a number.
    """
    judged = list(judged)
    if not judged:
        raise ValueError("no image was judged, so GenEval has no accuracy")
    by_task: dict[str, list[bool]] = {}
    by_prompt: dict[str, list[bool]] = {}
    for one in judged:
        by_task.setdefault(one.tag, []).append(one.correct)
        by_prompt.setdefault(one.prompt, []).append(one.correct)
    return GenEvalSummary(
        images=len(judged),
        correct_images=sum(one.correct for one in judged),
        prompts=len(by_prompt),
        correct_prompts=sum(map(any, by_prompt.values())),
        tasks={tag: TaskAccuracy(sum(verdicts), len(verdicts)) for tag, verdicts in by_task.items()},
    )


def render_summary(summary: GenEvalSummary) -> str:
    """The summary in the words and digits of the official program."""
    lines = [
        "Summary",
        "=======",
        f"Total images: {summary.images}",
        f"Total prompts: {summary.prompts}",
        f"% correct images: {summary.correct_images / summary.images:.2%}",
        f"% correct prompts: {summary.correct_prompts / summary.prompts:.2%}",
        "",
        "Task breakdown",
        "==============",
        *(f"{tag:<16} = {task.share:.2%} ({task.correct} / {task.images})" for tag, task in summary.tasks.items()),
        "",
        f"Overall score (avg. over tasks): {summary.overall:.5f}",
    ]
    return "\n".join(lines) + "\n"


def render_table(rows: Sequence[TableRow], published: Sequence[TableRow] | None = None) -> str:
    """Markdown: the published rows (the paper's Table 1 if none are given), then `rows`, each marked as what it is."""
    head = ["Model", "Source", "Images", "Failed", "Overall", *TASKS.values()]
    return render_markdown(head, [_cells(row, 2, none=NONE) for row in _all_rows(rows, published)], words=2)


def table_csv(rows: Sequence[TableRow], published: Sequence[TableRow] | None = None) -> str:
    """The same table as CSV, with the interval of the overall at the end; 5 decimals as the official program prints."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "source", "images", "failed", "overall", *TASKS, "overall_ci_low", "overall_ci_high"])
    for row in _all_rows(rows, published):
        writer.writerow(_cells(row, 5) + [format_digits(one, 5, "") for one in row.interval or (None, None)])
    return text.getvalue()


def _all_rows(rows: Sequence[TableRow], published: Sequence[TableRow] | None) -> list[TableRow]:
    return [*(PAPER_TABLE if published is None else published), *rows]


def _cells(row: TableRow, places: int, none: str = "") -> list[str]:
    """Published numbers keep the two digits they were published with."""
    places = 2 if row.source == PUBLISHED else places
    numbers = [row.overall, *(row.tasks.get(tag) for tag in TASKS)]
    counts = [none if count is None else str(count) for count in (row.images, row.failed)]
    return [row.model, row.source, *counts, *(format_digits(one, places, none) for one in numbers)]


PAPER_TABLE = tuple(
    TableRow(model, PUBLISHED, overall, dict(zip(TASKS, shares, strict=True)))
    for model, (overall, *shares) in published.GENEVAL.items()
)
