r"""Tables 1 and 2 of the DGPO paper with our rows under the published ones, in Markdown or LaTeX.

Every row says what it is: published ones carry a dagger, ours a letter whose note names prompts, seeds, sampler,
engines and weights; one that was not made as the published ones were carries a double dagger, and its note says in
what. The LaTeX is a plain `tabular` with \hline and needs no package.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.record import DRAWN
from benchmarks.harness.store import OK
from benchmarks.reading import published
from benchmarks.reading.geneval import PAPER_TABLE, TASKS
from benchmarks.reading.geneval_results import OFFICIAL, GenEvalResult, table_row, tabulate, tags_of
from benchmarks.reading.markdown import plain
from benchmarks.reading.results import Results, read_results, tell_engine
from benchmarks.reading.stats import FEW, caveat, estimate
from rewards.errors import UsageError
from rewards.files import replace_file

ENDINGS = (".md", ".tex")
DAGGER, DOUBLE_DAGGER = "†", "‡"
TASK_HEADS = {"geneval": "GenEval", "ocr": "OCR", "pickscore": "PickScore (task)"}
DRAWBENCH_HEADS = ("Aesthetic", "DeQA", "ImageReward", "PickScore", "UnifiedReward")
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", DAGGER: r"$^\dagger$", DOUBLE_DAGGER: r"$^\ddagger$",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One model: its marks, and its cells under the table's heads."""

    model: str
    marks: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table with its notes; `notes` are pairs of a mark and a sentence."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[tuple[str, str], ...]


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
    """Table 1 where all folders are of the suite geneval; Table 2 for drawbench, ocr and pickscore, with geneval's
    overall where it is among them; for any other suite a table of our rows alone.

    Folders of one model on several suites become one row; a model is known by its run's name and what run.json says of
    it. Raises UsageError for two folders of one model and suite, and for suites that go into no table together.
    """
    models = _group(read_results([Path(folder) for folder in folders]))
    suites = {suite for model in models for suite in model.by_suite}
    if suites == {"geneval"}:
        return _table_1(models)
    if suites <= set(published.SEEDS):
        return _table_2(models)
    if len(suites) > 1:
        names = sorted({run.suite for model in models for run in model.by_suite.values()})
        raise UsageError(
            f"The suites {', '.join(names)} go into no table together; name folders of"
            f" {', '.join(sorted(published.SEEDS))}, or of one suite."
        )
    return _own_table(models, suites.pop())


def render_markdown(table: Table) -> str:
    head = ["Model", *table.heads]
    lines = [head, ["---", *["---:"] * len(table.heads)]]
    lines += [[line.model + line.marks, *line.cells] for line in table.lines]
    body = "".join(f"| {' | '.join(plain(cell) or '-' for cell in line)} |\n" for line in lines)
    notes = "".join(f"{mark} {plain(text)}".strip() + "\n\n" for mark, text in table.notes)
    return f"**{plain(table.title)}**\n\n{body}\n{notes.rstrip()}\n"


def render_latex(table: Table) -> str:
    rows = [["Model", *table.heads], *[[line.model, *line.cells] for line in table.lines]]
    marks = ["", *[line.marks for line in table.lines]]
    body = [
        " & ".join([_latex(model) + _latex_marks(mark), *(_latex(cell or "-") for cell in cells)]) + r" \\"
        for mark, (model, *cells) in zip(marks, rows, strict=True)
    ]
    notes = [f"{_latex_marks(mark)}{' ' if mark else ''}{_latex(text)}\\par" for mark, text in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex(table.title)}}}",
            r"\footnotesize",
            rf"\begin{{tabular}}{{l{'r' * len(table.heads)}}}",
            r"\hline",
            body[0],
            r"\hline",
            *body[1:],
            r"\hline",
            r"\end{tabular}",
            r"\par",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _table_1(models: Sequence[_Model]) -> Table:
    lines = [
        Line(row.model, DAGGER, tuple(_plain(one) for one in (row.overall, *row.tasks.values()))) for row in PAPER_TABLE
    ]
    notes = [(DAGGER, f"Published: {published.TABLE_1}. {published.PROTOCOL_1}"), ("", published.OURS)]
    for letter, model in zip(_letters(), models, strict=False):
        run = model.by_suite["geneval"]
        key = _variant(run, OFFICIAL)
        if key is None:
            raise UsageError(f"{run.folder} was not judged by {OFFICIAL}; run its `dgpo eval` with it, then again.")
        result = tabulate(run.scores[key].values(), tags_of(run.prompts.values()), key)
        row = table_row(model.name, result)
        cells = (_overall(result), *(_plain(row.tasks[tag]) for tag in TASKS))
        marks, note = _describe(model, {"geneval": {key}})
        lines.append(Line(model.name, letter + marks, cells))
        notes.append((letter + marks, note))
    heads = ("Overall", *TASKS.values())
    return Table("GenEval", heads, tuple(lines), tuple(notes))


def _table_2(models: Sequence[_Model]) -> Table:
    lines = [
        Line(
            model,
            DAGGER,
            (*(_plain(published.TASK_METRICS[model].get(task)) for task in TASK_HEADS), *map(_plain, means)),
        )
        for model, means in published.DRAWBENCH.items()
    ]
    notes = [(DAGGER, f"Published: {published.TABLE_2}. {published.PROTOCOL_2}"), ("", published.OURS)]
    for letter, model in zip(_letters(), models, strict=False):
        used: dict[str, set[str]] = {}
        cells = [_task_cell(model, task, used) for task in TASK_HEADS]
        cells += [_mean_cell(model, "drawbench", column, used) for column in published.DRAWBENCH_COLUMNS]
        if not used:
            raise UsageError(
                f"{model.name} has no score that is a column of this table; its folders need the task's own reward, or"
                f" on drawbench one of {', '.join(published.DRAWBENCH_COLUMNS)}."
            )
        marks, note = _describe(model, used)
        lines.append(Line(model.name, letter + marks, tuple(cells)))
        notes.append((letter + marks, note))
    title = "Task metrics on the task's own test prompts, and image quality and preference on DrawBench's images"
    return Table(title, (*TASK_HEADS.values(), *DRAWBENCH_HEADS), tuple(lines), tuple(notes))


def _own_table(models: Sequence[_Model], suite: str) -> Table:
    keys = list(dict.fromkeys(key for model in models for key in model.by_suite[suite].scores))
    lines, notes = [], [("", published.OURS.replace("Rows without a dagger", "All rows"))]
    for letter, model in zip(_letters(), models, strict=False):
        run = model.by_suite[suite]
        cells = tuple(_mean(run, key) if key in run.scores else "" for key in keys)
        lines.append(Line(model.name, letter, cells))
        notes.append((letter, _describe(model, {suite: set(run.scores)}, compared=False)[1]))
    name = models[0].by_suite[suite].suite
    return Table(f"{name}: no published row belongs to this suite", tuple(keys), tuple(lines), tuple(notes))


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
    """A suite of the paper by its name, whatever part of it was taken; any other by its prompts."""
    name = run.suite.partition("[")[0]
    return name if name in published.SEEDS else run.record["suite"]["sha256"]


def _task_cell(model: _Model, task: str, used: dict[str, set[str]]) -> str:
    if task != "geneval":
        return _mean_cell(model, task, task, used)
    run = model.by_suite.get(task)
    key = None if run is None else _variant(run, OFFICIAL)
    if run is None or key is None:
        return ""
    used.setdefault(task, set()).add(key)
    return _overall(tabulate(run.scores[key].values(), tags_of(run.prompts.values()), key))


def _mean_cell(model: _Model, suite: str, reward: str, used: dict[str, set[str]]) -> str:
    run = model.by_suite.get(suite)
    key = None if run is None else _variant(run, reward)
    if run is None or key is None:
        return ""
    used.setdefault(suite, set()).add(key)
    return _mean(run, key)


def _variant(run: Results, reward: str) -> str | None:
    """The key that stands for a reward: the one without options where there are several."""
    keys = run.variants.get(reward)
    return min(keys, key=lambda key: (len(key), key)) if keys else None


def _mean(run: Results, key: str) -> str:
    rows = list(run.scores[key].values())
    scored = [(row.score, row.prompt_id) for row in rows if row.status == OK and row.score is not None]
    if not scored:
        return _with_failed("none", len(rows))
    found = estimate([score for score, _ in scored], [prompt for _, prompt in scored], run.card(key)["bounds"])
    few = caveat(found.interval, found.prompts)
    return _with_failed(_number(found.mean, found.ci_low, found.ci_high, few), len(rows) - len(scored))


def _overall(result: GenEvalResult) -> str:
    if result.overall is None:
        return _with_failed("none", result.failed)
    few = f"tasks of {result.fewest} prompts" if result.fewest < FEW else ""
    return _with_failed(_number(result.overall, result.ci_low, result.ci_high, few), result.failed)


def _number(mean: float, low: float | None, high: float | None, few: str) -> str:
    known = low is not None and high is not None and low == low and high == high  # a single prompt has no interval
    return (f"{mean:.2f} [{low:.2f}, {high:.2f}]" if known else f"{mean:.2f}") + (f" ({few})" if few else "")


def _with_failed(text: str, failed: int) -> str:
    return f"{text} ({failed} failed)" if failed else text


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _describe(model: _Model, used: Mapping[str, set[str]], *, compared: bool = True) -> tuple[str, str]:
    """The marks of one of our rows, and how it was made; with a double dagger where the published ones were not so."""
    parts, differences = [], []
    for suite, keys in used.items():
        run = model.by_suite[suite]
        parts.append(
            f"{run.suite}: {run.record['suite']['prompts']} prompts (sha256 {run.record['suite']['sha256'][:12]}),"
            f" {_count(run.record['seeds'])} per prompt, {_sampler(run)}; "
            + "; ".join(f"{key} by {_scored_by(run.card(key))}" for key in sorted(keys))
        )
        differences += _differences(run, suite, keys) if compared else []
    text = f"{model.name}: " + ". ".join(parts) + "."
    if not differences:
        return "", text
    return DOUBLE_DAGGER, f"{text} Not made as the published rows: {'; '.join(dict.fromkeys(differences))}."


def _differences(run: Results, suite: str, keys: set[str]) -> list[str]:
    """In what a folder's numbers were made otherwise than the published ones, besides what the notes say of all."""
    record, found = run.record, []
    if not str(_facts(run, "model").get("base", "")).endswith(published.BASE_MODEL):
        found.append(f"the model is not known to be {published.BASE_MODEL}, as it is or trained")
    sampler = _facts(run, "sampler")
    if sampler and (sampler.get("height"), sampler.get("width")) != (published.SIZE, published.SIZE):
        found.append(f"images of {sampler.get('width')} x {sampler.get('height')} pixels")
    if run.suite != suite:
        found.append(f"only the prompts {run.suite}")
    if len(record["seeds"]) != published.SEEDS[suite]:
        found.append(f"{_count(record['seeds'])} per prompt of {suite} and not {published.SEEDS[suite]}")
    if not record["finished"]:
        found.append(f"the evaluation on {suite} was not finished")
    for key in sorted(keys):
        if "[" in key:
            found.append(f"{key} has other options")
        if run.card(key)["spec"].get("weights"):
            found.append(f"{key} has weights from a folder that was named, which need not be the published ones")
    return found


def _sampler(run: Results) -> str:
    sampler = _facts(run, "sampler")
    if not sampler:
        where = "by nobody knows which sampler" if run.record["images"] == DRAWN else "found in a folder"
        return f"images {where}"
    return "drawn with " + ", ".join(f"{name} {value}" for name, value in sampler.items())


def _facts(run: Results, name: str) -> Mapping[str, Any]:
    """What the caller recorded of the model or the sampler, as far as it is known."""
    facts = run.record.get(name)
    return facts if isinstance(facts, dict) else {}


def _scored_by(card: Mapping[str, Any]) -> str:
    engine, weights = tell_engine(card["provenance"])
    return engine if weights == "none" else f"{engine} ({weights})"


def _count(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} image{'' if len(seeds) == 1 else 's'}"


def _letters() -> list[str]:
    """Marks of rows: a to z, then aa, ab and so on."""
    singles = list(string.ascii_lowercase)
    return [*(f" {one}" for one in singles), *(f" {one}{two}" for one in singles for two in singles)]


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _latex_marks(marks: str) -> str:
    return "".join(
        LATEX.get(mark, f"$^{{\\mathrm{{{mark}}}}}$") for mark in re.findall(rf"[a-z]+|{DAGGER}|{DOUBLE_DAGGER}", marks)
    )
