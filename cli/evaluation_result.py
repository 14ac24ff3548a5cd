"""What `dgpo eval` answers: a table of means, the suite's own table, what failed, and what a person should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.screen import print_json, print_table, say
from rewards.escape import escape_controls
from rewards.numbers import format_interval

if TYPE_CHECKING:
    from benchmarks.harness.summary import Summary
    from benchmarks.suite import Suite


def show_summary(summary: Summary, suite: Suite, *, as_json: bool) -> None:
    """The answer on stdout: a table with the folder under it, or one JSON document."""
    from benchmarks.reading.stats import FEW_SENTENCE, caveat

    if as_json:
        print_json(
            {
                "folder": str(summary.folder),
                "suite": suite.name,
                "suite_sha": suite.sha256,
                "images": summary.images,
                "failed": summary.failed,
                "reasons": summary.reasons,
                "notes": summary.notes,
                "rewards": [asdict(row) for row in summary.rows],
                **{name: written.described for name, written in summary.tables.items()},
            }
        )
        return
    rows = [
        (
            row.reward,
            row.unit,
            tell_mean(asdict(row)),
            row.prompts,
            row.seeds,
            row.failed,
            row.domain,
        )
        for row in summary.rows
    ]
    head = ("reward", "unit", "mean [95 %]", "prompts", "seeds", "failed", "domain")
    print_table(head, rows, expendable=("unit", "domain", "seeds"))
    if any(caveat(row.interval, row.prompts) for row in summary.rows):
        print(FEW_SENTENCE)
    for line in summary.failures:
        print(escape_controls(line))
    for table in (table for written in summary.tables.values() for table in written.shown):
        print()
        print_table(table.head, table.lines)
        for sentence in table.under:
            print(escape_controls(sentence))
    print(f"results: {summary.folder}")


def tell_mean(measured: Mapping[str, Any]) -> str:
    """The mean with its interval, and with what has to stand beside that; by the names of a row of the summary."""
    from benchmarks.reading.stats import caveat

    words = format_interval(measured["mean"], measured["ci_low"], measured["ci_high"])
    beside = caveat(measured["interval"], measured["prompts"])
    return f"{words} ({beside})" if beside else words


def tell_overlap(folder: Path) -> None:
    """Say how many of these prompts the model was trained on, where that is known."""
    from benchmarks.reading.findings import UNKNOWN, find_overlap
    from benchmarks.reading.results import read_results

    finding = find_overlap(read_results([folder]))
    if finding.verdict != UNKNOWN:
        say(finding.sentence)
