"""`dgpo compare`: is one model better than another on the same prompts and noise, and could we have seen it?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, split_setting
from cli.screen import print_json, print_table, say, terminal_width
from rewards.errors import UsageError
from rewards.escape import escape_controls
from rewards.exits import GATE_FAILED
from rewards.files import check_writable

if TYPE_CHECKING:
    import pandas

# Columns that a narrow terminal goes without, in this order.
EXPENDABLE = ("base", "domain", "wins", "base mean", "run mean")
WORDS = (
    'domain: "in" where the run was trained on that reward. wins: prompts on which the run is better (higher, where a'
    " reward only describes), ties counting half."
)


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR_A DIR_B ...", help="Folders of `dgpo eval`; the first is the base. With --html one is enough."
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE.csv", help="Write compare.csv here.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.png", help="Write the same prompts side by side.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE.html", help="Write a page with plots and all images; it opens without a network."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="FILE.md|FILE.tex",
            help="Write the paper's table that fits the suite: ours beside the published rows.",
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--also",
            metavar="DIR",
            help="With --table: the same models on another suite, into the same rows; repeatable.",
        ),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="NAME=X", help="A loss of this reward that is acceptable; repeatable."),
    ] = None,
    any_sampler: Annotated[
        bool,
        typer.Option(
            "--any-sampler",
            help="Compare even what was drawn by other sampler settings or in another precision; it is noted.",
        ),
    ] = False,
    fail_if_worse: Annotated[bool, typer.Option("--fail-if-worse", help="Exit 4 when a run is worse.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare results folders, each with the first one, with intervals."""
    from benchmarks.reading import compare as comparison
    from benchmarks.reading.contact_sheet import before_after
    from benchmarks.reading.findings import FINE, examine

    margins = parse_margins(margin or [])
    for path, ending in ((output, ".csv"), (picture, ".png"), (html, ".html")):
        if path is not None and path.suffix.lower() != ending:
            raise UsageError(f"{path}: this is written as {ending}; name a file that ends so.")
    for path in (output, picture, html, table):
        if path is not None:
            check_writable(path)
    if html is not None and len(folders) == 1:
        others = output or picture or table or also or margins or fail_if_worse or as_json
        _show_one(folders, html, others_asked=bool(others))
        return
    if also and table is None:
        raise UsageError("--also adds folders to the table that --table writes; name that file too.")
    found = comparison.compare(folders, margins, any_sampler=any_sampler)
    notes, power = found.attrs["notes"], found.attrs["power"]
    if table is not None:
        _write_table([*folders, *(also or [])], table)
    findings = examine(folders, margins=margins, any_sampler=any_sampler)
    if output is not None:
        comparison.write_comparison(found, output)
    if picture is not None:
        before_after(folders, picture, any_sampler=any_sampler)
    rows = found.to_dict("records")
    if as_json:
        print_json({"rows": rows, "notes": notes, "power": power, "findings": [asdict(one) for one in findings]})
    else:
        _show(found, [f"{one.verdict}: {one.title}. {one.sentence}" for one in findings if one.verdict != FINE])
    for path in (output, picture, table):
        if path is not None:
            say(f"wrote {path}")
    if html is not None:
        _write_page(folders, html, margins, any_sampler=any_sampler)
    worse = [f"{row['run']} in {row['reward']}" for row in rows if row["verdict"] == "worse"]
    if fail_if_worse and worse:
        say(f"worse: {', '.join(worse)}")
        raise typer.Exit(GATE_FAILED)


def _show(found: pandas.DataFrame, findings: list[str]) -> None:
    """The answer for a person: as Markdown where it goes elsewhere than to a terminal, which has its width."""
    from benchmarks.reading.compare import comparison_cells, render_comparison

    if terminal_width() is None:
        print(escape_controls(render_comparison(found)))
    else:
        print_table(*comparison_cells(found), expendable=EXPENDABLE)
    notes = [WORDS, *found.attrs["notes"], *found.attrs["power"]]
    print(escape_controls("\n".join(["", *notes, "", *findings])))


def _write_table(folders: list[Path], path: Path) -> None:
    from benchmarks.reading.paper_tables import write_table

    write_table(folders, path)


def _show_one(folders: list[Path], html: Path, *, others_asked: bool) -> None:
    """The page of a single run, with which nothing can be compared."""
    if others_asked:
        raise UsageError(
            "One folder alone can only be shown (--html FILE.html); everything else compares. Name a second folder."
        )
    _write_page(folders, html, {})


def _write_page(folders: list[Path], html: Path, margins: dict[str, float], *, any_sampler: bool = False) -> None:
    from benchmarks.report import write_report

    written = write_report(folders, html, margins, any_sampler=any_sampler)
    for note in written.notes:
        say(note)
    say(f"wrote {html} ({written.size / 1e6:.1f} MB, {written.thumbnails} images of at most {written.side} pixels)")


def parse_margins(texts: list[str]) -> dict[str, float]:
    """NAME=X texts as numbers; UsageError for anything else."""
    margins = {}
    for text in texts:
        name, value = split_setting(text, "--margin", "NAME=X, as in --margin ocr=0.02")
        try:
            margins[name] = float(value)
        except ValueError:
            raise UsageError(f'--margin takes a number, as in --margin ocr=0.02; got "{text}".') from None
    return margins
