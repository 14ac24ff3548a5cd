"""The parts of the page that need no script: summary, comparison, findings and what the scores were made with.

Every function returns HTML in which all text from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from benchmarks.harness.summary import SummaryRow, summarise
from benchmarks.reading import stats
from benchmarks.reading.findings import Finding
from benchmarks.reading.results import Results
from rewards.numbers import format_number

if TYPE_CHECKING:
    import pandas

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
GOOD, POOR, PLAIN = "good", "poor", "plain"
VERDICT_MARKS = {"better": GOOD, "worse": POOR}
FINDING_MARKS = {"fine": GOOD, "look": "look", "bad": POOR, "unknown": PLAIN}


def summaries(runs: Sequence[Results]) -> list[list[SummaryRow]]:
    """For each run a summary row for each of its rewards."""
    table = []
    for run in runs:
        rows = (row for scores in run.scores.values() for row in scores.values())
        cards = {key: run.card(key) for key in run.scores}
        table.append(summarise(rows, cards, run.trained_on)[0])
    return table


def summary_table(runs: Sequence[Results], table: Sequence[Sequence[SummaryRow]]) -> str:
    """A row per reward, a column a run: mean with interval, drawn and written; failed scores are counted."""
    keys = list(dict.fromkeys(row.reward for rows in table for row in rows))
    by_run = [{row.reward: row for row in rows} for rows in table]
    lines = []
    for key in keys:
        found = [rows.get(key) for rows in by_run]
        known = next(row for row in found if row is not None)
        scale = _scale(row for row in found if row is not None)
        cells = "".join(
            f'<td data-label="{escape(run.name)}">{_estimate(row, scale)}</td>'
            for run, row in zip(runs, found, strict=True)
        )
        domains = {row.domain for row in found if row is not None}
        trained = "yes" if "in" in domains else "no" if "out" in domains else NONE
        lines.append(
            f'<tr><th scope="row">{escape(key)}<small>{escape(known.unit)}</small></th>{cells}'
            f'<td data-label="trained on">{trained}</td></tr>'
        )
    heads = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in runs)
    caption = "Mean over prompts with its 95 % interval"
    if any(stats.caveat(row.interval, row.prompts) for rows in table for row in rows):
        caption += f". {stats.FEW_SENTENCE}"
    return _table(f'<th scope="col">reward</th>{heads}<th scope="col">trained on</th>', lines, caption)


def comparison_table(table: pandas.DataFrame) -> str:
    """A row per run and reward: difference to the base with interval, p after Holm, wins and the verdict."""
    heads = ("reward", "run", "difference", "p (Holm)", "wins", "prompts", "verdict")
    records: list[dict[str, Any]] = table.to_dict("records")
    alone = len({row["run"] for row in records}) == 1
    shown = [name for name in heads if not (alone and name == "run")]
    lines = []
    for row in records:
        mark = VERDICT_MARKS.get(row["verdict"], PLAIN)
        places = decimals(row["ci_high"] - row["ci_low"])
        low, high = (number(row[name], "+", places) for name in ("ci_low", "ci_high"))
        cells = (
            *(() if alone else (escape(row["run"]),)),
            f"<b>{number(row['delta'], '+', places)}</b> <span class=interval>[{low}, {high}]</span>"
            + _caveat(row["interval"], row["prompts"]),
            "&lt;0.001" if row["p_holm"] < 0.001 else number(row["p_holm"]),
            NONE if math.isnan(row["win_rate"]) else f"{row['win_rate']:.0%}",
            str(row["prompts"]),
            f'<span class="mark {mark}">{escape(row["verdict"])}</span>',
        )
        labelled = zip(shown[1:], cells, strict=True)
        rest = "".join(f'<td data-label="{name}">{cell}</td>' for name, cell in labelled)
        lines.append(f'<tr><th scope="row">{escape(row["reward"])}</th>{rest}</tr>')
    run = records[0]["run"] if alone else "Each run"
    head = "".join(f'<th scope="col">{name}</th>' for name in shown)
    return _table(
        head,
        lines,
        escape(f"{run} minus {records[0]['base']}, on the same prompts and seeds; wins: prompts on which it is better"),
    )


def alerts(findings: Sequence[Finding]) -> str:
    """The first finding, and those that a person should look at, in a line each."""
    lines = [
        f'<p class="alert"><span class="mark {FINDING_MARKS[finding.verdict]}">{finding.verdict}</span> '
        f'<a href="#findings">{escape(finding.title)}</a>: {escape(finding.sentence)}</p>'
        for place, finding in enumerate(findings)
        if place == 0 or finding.verdict in ("look", "bad")
    ]
    return "\n".join(lines)


def findings_section(findings: Sequence[Finding]) -> str:
    """What was looked at beyond the means: a mark, a sentence, and the numbers behind it."""
    parts = []
    for finding in findings:
        numbers = ""
        if finding.rows:
            head = "".join(f'<th scope="col">{escape(name)}</th>' for name in finding.head)
            lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in finding.rows]
            numbers = f"<details><summary>the numbers</summary>{_table(head, lines)}</details>"
        parts.append(
            f'<div class="finding"><h3>{escape(finding.title)} '
            f'<span class="mark {FINDING_MARKS[finding.verdict]}">{finding.verdict}</span></h3>'
            f"<p>{escape(finding.sentence)}</p>{numbers}</div>"
        )
    return "\n".join(parts)


def notes_list(notes: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(note)}</li>" for note in dict.fromkeys(notes))
    return f"<ul class=notes>{lines}</ul>" if lines else ""


def made_with(runs: Sequence[Results]) -> str:
    """For each run where it lies, its model, sampler, program and machine, and what scored each reward."""
    parts = []
    for run in runs:
        record = run.record
        lines = [
            ("folder", str(run.folder)),
            ("model", _plain(record.get("model"))),
            ("images", "drawn here" if record.get("images") == "images" else _plain(record.get("images"))),
            ("sampler", _plain(record.get("sampler"))),
            ("suite", f"{run.suite}, sha256 {record['suite']['sha256']}, from {record['suite']['source']}"),
            ("seeds", ", ".join(map(str, record.get("seeds", [])))),
            ("trained on", _plain(record.get("trained_on")) if record.get("trained_on") else "nothing recorded"),
            ("finished", "yes" if record.get("finished") else "no: this evaluation was not run to its end"),
            ("program", f"dgpo {record.get('dgpo', 'unknown')}, git {_plain(record.get('git'))}"),
            ("time", _plain(record.get("time"))),
            ("command", " ".join(map(str, record.get("command_line") or []))),
            ("hardware", _plain(record.get("hardware"))),
            *((f"scored by, {key}", _plain(run.card(key).get("provenance"))) for key in run.scores),
        ]
        body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in lines)
        parts.append(f"<details><summary>{escape(run.name)}</summary><dl>{body}</dl></details>")
    return "\n".join(parts)


def number(value: float | None, sign: str = "", places: int = 3) -> str:
    """A number with so many decimals, one from 100 on; its minus reads as one.

    >>> number(123.456), number(0.5, "+"), number(-0.0001), number(0.00123, places=4)
    ('123.5', '+0.500', '0.000', '0.0012')
    """
    if value is None or math.isnan(value):
        return NONE
    text = format_number(value, sign, places)
    return f"{0:.{places}f}" if float(text) == 0 else text.replace("-", MINUS)


def decimals(width: float) -> int:
    """Enough decimals that an interval of this width is written with two digits that differ; 3 to 7.

    >>> decimals(0.2), decimals(0.0023)
    (3, 4)
    """
    if not width > 0:
        return 3
    return min(7, max(3, 1 - math.floor(math.log10(width))))


def _estimate(row: SummaryRow | None, scale: tuple[float, float] | None) -> str:
    if row is None:
        return NONE
    failed = f'<small class="failed">{row.failed} failed</small>' if row.failed else ""
    interval, places = "", 3
    if row.ci_low is not None and row.ci_high is not None:
        places = decimals(row.ci_high - row.ci_low)
        interval = f" <span class=interval>[{number(row.ci_low, '', places)}, {number(row.ci_high, '', places)}]</span>"
    caveat = _caveat(row.interval, row.prompts)
    return f"<b>{number(row.mean, '', places)}</b>{interval}{caveat}{_whisker(row, scale)}{failed}"


def _caveat(interval: str, prompts: int) -> str:
    """What has to stand beside an interval that few prompts made."""
    words = stats.caveat(interval, prompts)
    return f'<small class="few">{words}</small>' if words else ""


def _whisker(row: SummaryRow, scale: tuple[float, float] | None) -> str:
    """The interval as a line with the mean on it, on one scale for all runs of a reward."""
    if scale is None or row.mean is None or row.ci_low is None or row.ci_high is None:
        return ""
    low, high = scale
    left, middle, right = (4 + 112 * (value - low) / (high - low) for value in (row.ci_low, row.mean, row.ci_high))
    return (
        '<svg class="whisker" viewBox="0 0 120 10" aria-hidden="true">'
        f'<path class="axis" d="M0 5H120"/><path class="span" d="M{left:.1f} 5H{max(right, left + 1):.1f}"/>'
        f'<circle cx="{middle:.1f}" cy="5" r="3.5"/></svg>'
    )


def _scale(rows: Iterable[SummaryRow]) -> tuple[float, float] | None:
    ends = [value for row in rows for value in (row.ci_low, row.ci_high, row.mean) if value is not None]
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def _table(head: str, lines: Sequence[str], caption: str = "") -> str:
    title = f'<p class="hint">{caption}</p>' if caption else ""
    return (
        f'{title}<div class="wide" tabindex="0" role="group" aria-label="{caption or "numbers"}">'
        f"<table{' class=stack' if caption else ''}><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "not recorded" if value is None else str(value)
