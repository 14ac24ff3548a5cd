"""GenEval's own table: geneval.csv and geneval.md of a results folder, the screen's, and a row in the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.geneval import accuracy
from benchmarks.geneval.accuracy import PAPER_TABLE, TASKS
from benchmarks.geneval.results import OFFICIAL, GenEvalResult, table_row, tabulate, tags_of, tell_overall
from benchmarks.harness.store import Row
from benchmarks.reading import published
from benchmarks.reading.markdown import plain, render_markdown
from benchmarks.reading.stats import FEW
from benchmarks.suite_table import PaperRow, PublishedTable, ScreenTable, SuiteTable, Written
from rewards.errors import UsageError
from rewards.files import replace_file
from rewards.numbers import format_digits, format_number, in_brackets
from rewards.prompt import Prompt

if TYPE_CHECKING:
    from benchmarks.reading.results import Results

CSV_FILE, MARKDOWN_FILE = "geneval.csv", "geneval.md"
# Of the published rows those that the screen shows, by their column there: one model before and after training.
SHOWN = {
    "SD3.5-M": "published: SD3.5-M",
    "SD3.5-M + Flow-GRPO": "with Flow-GRPO",
    "SD3.5-M + DGPO": "with DGPO",
}


class GenEvalTable(SuiteTable):
    """Made from the official verdict, once for each of its variants that was asked."""

    name = "geneval"

    def fits(self, prompts: Sequence[Prompt]) -> bool:
        """Whether all of these are GenEval's records."""
        return all(isinstance(prompt.spec.get("tag"), str) and "include" in prompt.spec for prompt in prompts)

    def write(
        self, folder: Path, rows: Sequence[Row], prompts: Sequence[Prompt], record: Mapping[str, Any]
    ) -> Written | None:
        asked = {row.reward for row in rows}
        keys = [key for key, card in record["rewards"].items() if card["name"] == OFFICIAL and key in asked]
        if not keys:
            return None
        results = [tabulate(rows, tags_of(prompts), key) for key in keys]
        run = record["run"]
        lines = [table_row(f"{run} ({one.reward})" if len(results) > 1 else run, one) for one in results]
        replace_file(folder / CSV_FILE, accuracy.table_csv(lines).encode())
        replace_file(folder / MARKDOWN_FILE, _render_page(run, lines, results).encode())
        shown = [_show(one, run) for one in results]
        beside = f"all published rows beside it: {MARKDOWN_FILE} and {CSV_FILE} in the results folder"
        last = ScreenTable(shown[-1].head, shown[-1].lines, (*shown[-1].under, beside))
        return Written((*shown[:-1], last), _describe(results))

    def headline(self, run: Results) -> PaperRow | None:
        """The overall."""
        key = run.variant(OFFICIAL)
        return None if key is None else PaperRow(key, (_tell_overall_cell(_tabulate(run, key)),))

    @property
    def published(self) -> PublishedTable:
        """Table 1 of the DGPO paper."""
        return PublishedTable(
            title="GenEval",
            source=f"{published.TABLE_1}. {published.PROTOCOL_1}",
            heads=("Overall", *TASKS.values()),
            rows=tuple(
                (row.model, tuple(format_digits(one, 2, "") for one in (row.overall, *row.tasks.values())))
                for row in PAPER_TABLE
            ),
            row_of=_row_of,
        )


GENEVAL_TABLE = GenEvalTable()


def _row_of(run: Results) -> PaperRow:
    key = run.variant(OFFICIAL)
    if key is None:
        raise UsageError(f"{run.folder} was not judged by {OFFICIAL}; run its `dgpo eval` with it, then again.")
    result = _tabulate(run, key)
    shares = table_row(run.name, result).tasks
    return PaperRow(key, (_tell_overall_cell(result), *(format_digits(shares[tag], 2, "") for tag in TASKS)))


def _tabulate(run: Results, key: str) -> GenEvalResult:
    return tabulate(run.scores[key].values(), tags_of(run.prompts.values()), key)


def _tell_overall_cell(result: GenEvalResult) -> str:
    if result.overall is None:
        text = "none"
    else:
        text = in_brackets(*(format_digits(one, 2) for one in (result.overall, result.ci_low, result.ci_high)))
        text += f" (tasks of {result.fewest} prompts)" if result.fewest < FEW else ""
    return f"{text} ({result.failed} failed)" if result.failed else text


def _show(result: GenEvalResult, run_name: str) -> ScreenTable:
    """One line per task beside published ones, the overall last, and under it what is in no number."""
    printed = [row for row in PAPER_TABLE if row.model in SHOWN]
    lines = [
        (
            TASKS.get(tag, tag),
            task.images,
            task.failed,
            format_number(task.accuracy),
            *(format_digits(row.tasks.get(tag), 2) for row in printed),
        )
        for tag, task in result.tasks.items()
    ]
    overall = (format_number(result.overall), *(format_digits(row.overall, 2) for row in printed))
    lines.append(("Overall", result.images, result.failed, *overall))
    head = ("GenEval", "images", "failed", run_name, *(SHOWN[row.model] for row in printed))
    return ScreenTable(head, tuple(lines), (tell_overall(result),))


def _describe(results: Sequence[GenEvalResult]) -> dict[str, Any]:
    """With every published row."""
    return {
        "measured": [{**asdict(result), "images": result.images, "failed": result.failed} for result in results],
        "published": [{"model": row.model, "overall": row.overall, "tasks": dict(row.tasks)} for row in PAPER_TABLE],
    }


def _render_page(run_name: str, lines: Sequence[accuracy.TableRow], results: Sequence[GenEvalResult]) -> str:
    parts = [f"# GenEval: {plain(run_name)}\n", accuracy.render_table(lines)]
    for result in results:
        tasks = [
            (tag, task.prompts, task.images, task.failed, task.correct, format_digits(task.accuracy, 5))
            for tag, task in result.tasks.items()
        ]
        head = ("Task", "Prompts", "Images", "Failed", "Correct", "Accuracy")
        parts += [tell_overall(result) + "\n", render_markdown(head, tasks)]
    return "\n".join(parts)
