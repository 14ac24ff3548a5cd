"""What `dgpo eval` says of GenEval: the tasks' accuracies beside published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.screen import format_number, print_table

if TYPE_CHECKING:
    from benchmarks.reading.geneval_results import GenEvalResult

# Of the published rows those that the screen shows, by their column there: one model before and after training.
SHOWN = {
    "SD3.5-M": "published: SD3.5-M",
    "SD3.5-M + Flow-GRPO": "with Flow-GRPO",
    "SD3.5-M + DGPO": "with DGPO",
}


def show_geneval(results: Sequence[GenEvalResult], run_name: str) -> None:
    """A table a verdict, one line per task, with the overall and what is in no number under it."""
    from benchmarks.reading.geneval import PAPER_TABLE, TASKS
    from benchmarks.reading.geneval_results import CSV_FILE, MARKDOWN_FILE, tell_overall

    published = [row for row in PAPER_TABLE if row.model in SHOWN]
    for result in results:
        lines = [
            (
                TASKS.get(tag, tag),
                task.images,
                task.failed,
                format_number(task.accuracy),
                *(_two_digits(row.tasks.get(tag)) for row in published),
            )
            for tag, task in result.tasks.items()
        ]
        overall = (format_number(result.overall), *(_two_digits(row.overall) for row in published))
        lines.append(("Overall", result.images, result.failed, *overall))
        print()
        print_table(("GenEval", "images", "failed", run_name, *(SHOWN[row.model] for row in published)), lines)
        print(tell_overall(result))
    if results:
        print(f"all published rows beside it: {MARKDOWN_FILE} and {CSV_FILE} in the results folder")


def describe_geneval(results: Sequence[GenEvalResult]) -> dict[str, Any]:
    """The same for --json, with every published row."""
    from benchmarks.reading.geneval import PAPER_TABLE

    return {
        "measured": [{**asdict(result), "images": result.images, "failed": result.failed} for result in results],
        "published": [{"model": row.model, "overall": row.overall, "tasks": dict(row.tasks)} for row in PAPER_TABLE],
    }


def _two_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
