"""Tables 1 and 2 of the DGPO paper with our rows under the published ones, in Markdown or LaTeX.

Every row says what it is: published ones carry a dagger, ours a letter whose note names prompts, seeds, sampler,
engines and weights; one that was not made as the published ones were carries a double dagger, and its note says in
what.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.store import OK
from benchmarks.reading import published
from benchmarks.reading.results import Results, read_results
from benchmarks.reading.row_notes import describe_row, find_differences
from benchmarks.reading.stats import caveat, estimate
from benchmarks.reading.table_form import DAGGER, DOUBLE_DAGGER, Line, Table, render_latex, render_markdown
from benchmarks.suite_table import PublishedTable
from benchmarks.suites import SUITES
from rewards.errors import UsageError
from rewards.files import replace_file
from rewards.numbers import format_digits, in_brackets

ENDINGS = (".md", ".tex")


@dataclass(frozen=True)
class _Model:
    """One of our rows: the results folders of one model by suite."""

    name: str
    by_suite: Mapping[str, Results]


def write_table(folders: Sequence[Path], path: Path) -> Table:
    """The table that fits the suites of these results folders, as Markdown (.md) or LaTeX (.tex)."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: a table is written as Markdown or LaTeX; name a file that ends in .md or .tex.")
    table = make_table(folders)
    render = render_markdown if path.suffix.lower() == ".md" else render_latex
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, render(table).encode("utf-8"), named=True)
    return table


def make_table(folders: Sequence[Path]) -> Table:
    """The published table of the suite where all folders are of one that has it (GenEval's is Table 1); Table 2 for
    the suites of its columns; for any other suite a table of our rows alone.

    Folders of one model on several suites become one row; a model is known by its run's name and what run.json says of
    it. Raises UsageError for two folders of one model and suite, and for suites that go into no table together.
    """
    models = _group(read_results([Path(folder) for folder in folders]))
    suites = {suite for model in models for suite in model.by_suite}
    if len(suites) == 1:
        (suite,) = suites
        own = _published_table(suite)
        if own is not None:
            return _suites_own(models, suite, own)
    if suites <= set(published.SEEDS):
        return _table_2(models)
    if len(suites) > 1:
        names = sorted({run.suite for model in models for run in model.by_suite.values()})
        raise UsageError(
            f"The suites {', '.join(names)} go into no table together; name folders of"
            f" {', '.join(sorted(published.SEEDS))}, or of one suite."
        )
    return _without_published(models, suites.pop())


def _published_table(suite: str) -> PublishedTable | None:
    table = SUITES[suite].table if suite in SUITES else None
    return table.published if table is not None else None


def _suites_own(models: Sequence[_Model], suite: str, own: PublishedTable) -> Table:
    lines = [Line(model, DAGGER, cells) for model, cells in own.rows]
    notes = [(DAGGER, f"Published: {own.source}"), ("", published.OURS)]
    for letter, model in zip(_letters(), models, strict=False):
        row = own.row_of(model.by_suite[suite])
        line, note = _our_line(letter, model, row.cells, {suite: {row.key}})
        lines.append(line)
        notes.append(note)
    return Table(own.title, own.heads, tuple(lines), tuple(notes))


def _table_2(models: Sequence[_Model]) -> Table:
    lines = [
        Line(model, DAGGER, tuple(format_digits(one, 2, "") for one in (*_printed_tasks(model), *means)))
        for model, means in published.DRAWBENCH.items()
    ]
    notes = [(DAGGER, f"Published: {published.TABLE_2}. {published.PROTOCOL_2}"), ("", published.OURS)]
    for letter, model in zip(_letters(), models, strict=False):
        used: dict[str, set[str]] = {}
        cells = [_task_cell(model, task, used) for task in published.TASKS]
        cells += [_mean_cell(model, "drawbench", column, used) for column in published.DRAWBENCH_COLUMNS]
        if not used:
            raise UsageError(
                f"{model.name} has no score that is a column of this table; its folders need the task's own reward, or"
                f" on drawbench one of {', '.join(published.DRAWBENCH_COLUMNS)}."
            )
        line, note = _our_line(letter, model, cells, used)
        lines.append(line)
        notes.append(note)
    title = "Task metrics on the task's own test prompts, and image quality and preference on DrawBench's images"
    heads = (*published.TASKS.values(), *published.DRAWBENCH_COLUMNS.values())
    return Table(title, heads, tuple(lines), tuple(notes))


def _printed_tasks(model: str) -> list[float | None]:
    return [published.TASK_METRICS[model].get(task) for task in published.TASKS]


def _without_published(models: Sequence[_Model], suite: str) -> Table:
    keys = list(dict.fromkeys(key for model in models for key in model.by_suite[suite].scores))
    lines, notes = [], [("", published.OURS.replace("Rows without a dagger", "All rows"))]
    for letter, model in zip(_letters(), models, strict=False):
        run = model.by_suite[suite]
        cells = tuple(_mean(run, key) if key in run.scores else "" for key in keys)
        lines.append(Line(model.name, letter, cells))
        notes.append((letter, describe_row(model.name, model.by_suite, {suite: set(run.scores)})))
    name = models[0].by_suite[suite].suite
    return Table(f"{name}: no published row belongs to this suite", tuple(keys), tuple(lines), tuple(notes))


def _our_line(
    letter: str, model: _Model, cells: Sequence[str], used: Mapping[str, set[str]]
) -> tuple[Line, tuple[str, str]]:
    """A row of ours with its note; with a double dagger where the published ones were not made so."""
    text = describe_row(model.name, model.by_suite, used)
    differences = find_differences(model.by_suite, used)
    if differences:
        letter += DOUBLE_DAGGER
        text += f" Not made as the published rows: {'; '.join(differences)}."
    return Line(model.name, letter, tuple(cells)), (letter, text)


def _group(runs: Sequence[Results]) -> list[_Model]:
    grouped: dict[tuple[str, str], dict[str, Results]] = {}
    for run in runs:
        of_model = grouped.setdefault((run.record["run"], repr(run.record.get("model"))), {})
        suite = _suite_of(run)
        if suite in of_model:
            raise UsageError(
                f"{of_model[suite].folder} and {run.folder} are of one model and one suite; name one of them."
            )
        of_model[suite] = run
    names = [name for name, _ in grouped]
    return [
        _Model(name if names.count(name) == 1 else str(next(iter(of_model.values())).folder), of_model)
        for (name, _), of_model in grouped.items()
    ]


def _suite_of(run: Results) -> str:
    """A known suite by its name, whatever part of it was taken; any other by its prompts."""
    name = run.suite.partition("[")[0]
    return name if name in SUITES else run.record["suite"]["sha256"]


def _task_cell(model: _Model, task: str, used: dict[str, set[str]]) -> str:
    """The task's number on its own suite: what the suite's table has for it, else the mean of the reward so called."""
    table, run = SUITES[task].table, model.by_suite.get(task)
    if table is None:
        return _mean_cell(model, task, task, used)
    row = None if run is None else table.headline(run)
    if row is None:
        return ""
    used.setdefault(task, set()).add(row.key)
    return row.cells[0]


def _mean_cell(model: _Model, suite: str, reward: str, used: dict[str, set[str]]) -> str:
    run = model.by_suite.get(suite)
    key = None if run is None else run.variant(reward)
    if run is None or key is None:
        return ""
    used.setdefault(suite, set()).add(key)
    return _mean(run, key)


def _mean(run: Results, key: str) -> str:
    rows = list(run.scores[key].values())
    scored = [(row.score, row.prompt_id) for row in rows if row.status == OK and row.score is not None]
    if not scored:
        return f"none ({len(rows)} failed)" if rows else "none"
    found = estimate([score for score, _ in scored], [prompt for _, prompt in scored], run.card(key)["bounds"])
    text = in_brackets(*(format_digits(one, 2) for one in (found.mean, found.ci_low, found.ci_high)))
    few, failed = caveat(found.interval, found.prompts), len(rows) - len(scored)
    return text + (f" ({few})" if few else "") + (f" ({failed} failed)" if failed else "")


def _letters() -> list[str]:
    """Marks of rows: a to z, then aa, ab and so on."""
    singles = list(string.ascii_lowercase)
    return [*(f" {one}" for one in singles), *(f" {one}{two}" for one in singles for two in singles)]
