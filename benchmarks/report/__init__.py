"""report.html: what one or several evaluations found, in one file that opens from disk and asks no network.

Numbers with their intervals, plots of every prompt, training curves, findings, and all images side by side with their
scores. Small pictures are inside; the full ones are read from the PNG files beside the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from benchmarks.reading import compare as comparison
from benchmarks.reading.findings import examine
from benchmarks.reading.results import Results, read_results
from benchmarks.report import document, tables
from benchmarks.report.categories import categories_of
from benchmarks.report.cells import collect
from benchmarks.report.curves import training_curves
from benchmarks.report.thumbnails import FORMAT, Job, Plan, plan, shrink_all
from rewards.files import replacing

MOST_BYTES = 30_000_000
# What the data say of one thumbnail (run, cell, length), and of all that could not be read.
LENGTH_BYTES = 16
SENTENCES_BYTES = 200_000


@dataclass(frozen=True)
class Written:
    """What became of a report: its size in bytes, its thumbnails' longest side in pixels, and what to know of it."""

    path: Path
    size: int
    thumbnails: int
    side: int
    notes: tuple[str, ...]


def write_report(
    folders: Sequence[Path],
    path: Path,
    margins: Mapping[str, float] | None = None,
    most_bytes: int = MOST_BYTES,
    *,
    any_sampler: bool = False,
) -> Written:
    """Write the page about results folders, each compared with the first; one folder is shown alone.

    `margins` and `any_sampler` are those of `reading.compare.compare`. Raises UsageError for folders that may not be
    compared.
    """
    folders = [Path(folder) for folder in folders]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = comparison.compare(folders, margins, any_sampler=any_sampler) if len(folders) > 1 else None
    runs = read_results(folders)
    cells = collect(runs, categories_of(runs[0].prompts.values()), path.parent)
    curves, curve_notes = training_curves(runs)
    notes = [*cells.notes, *curve_notes]
    if table is not None:
        notes = [*table.attrs["notes"], *notes, *table.attrs["power"]]
    findings = examine(folders, margins=margins, any_sampler=any_sampler)
    before, between, after = document.parts(
        {
            "title": escape(f"{' and '.join(run.name for run in runs)} on {runs[0].suite}"),
            "lead": escape(_lead(runs)),
            "summary": tables.summary_table(runs, tables.summaries(runs)),
            "comparison": "" if table is None else tables.comparison_table(table),
            "alerts": tables.alerts(findings),
            "findings": tables.findings_section(findings),
            "notes": tables.notes_list(notes),
            "made": tables.made_with(runs),
        }
    )
    data = {**cells.data, "curves": curves, "noise": all(run.record.get("sampler") for run in runs)}
    fixed = len(before) + len(between) + len(after) + len(document.to_json(data))
    planned = plan(cells.jobs, most_bytes - fixed - SENTENCES_BYTES - LENGTH_BYTES * len(cells.jobs))
    embedded = _Embedded(runs, planned)
    with replacing(path, named=True) as file:
        file.write(before)
        for text in embedded.texts():
            file.write(text)
        file.write(between)
        file.write(document.to_json({**data, "thumbnails": embedded.describe()}))
        file.write(after)
    return Written(path, path.stat().st_size, embedded.count, planned.side, tuple(embedded.notes()))


class _Embedded:
    """Keeps account of the thumbnails while they are written one after another."""

    def __init__(self, runs: Sequence[Results], planned: Plan) -> None:
        self.runs, self.plan = runs, planned
        self.count = 0
        self.ratio = 1.0
        self.widest = 0
        self.places: list[list[int]] = []
        self.problems: list[list[int | str]] = []

    def texts(self) -> Iterator[bytes]:
        for job, thumbnail in shrink_all(self.plan):
            self._note(job, thumbnail.problem)
            if not thumbnail.text:
                continue
            self.count += 1
            self.ratio = max(self.ratio if self.count > 1 else 0.0, thumbnail.height / thumbnail.width)
            self.widest = max(self.widest, thumbnail.width)
            self.places.append([job.run, job.cell, len(thumbnail.text)])
            yield thumbnail.text

    def _note(self, job: Job, problem: str) -> None:
        if problem:
            self.problems.append([job.run, job.cell, problem])

    def describe(self) -> dict[str, object]:
        """For the page: whose thumbnails follow each other (run, cell, length), images' shape and width, problems."""
        return {
            "places": [number for place in self.places for number in place],
            "ratio": round(self.ratio, 4),
            "widest": self.widest,
            "kind": f"image/{FORMAT.lower()}",
            "problems": self.problems,
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        found = []
        if self.plan.left_out:
            seeds = ", ".join(map(str, self.plan.left_out))
            found.append(
                f"To keep this file small, the images of seed {seeds} have no small copy inside it (or not all of them"
                " have); they are shown from the files beside it."
            )
        if self.problems:
            found.append(f"{len(self.problems)} image files are gone, damaged or not the ones that were scored.")
        return found


def _lead(runs: Sequence[Results]) -> str:
    suite = runs[0].record["suite"]
    seeds = len(runs[0].record.get("seeds", []))
    drawn = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{suite['prompts']} prompts x {seeds} {'seed' if seeds == 1 else 'seeds'}; written {drawn}"
