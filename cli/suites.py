"""`dgpo suites`: on which prompts a model can be measured; and the suites that this program brings itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, DataFolder, group
from cli.screen import print_json, print_table, say
from rewards.errors import UsageError, suggestion

if TYPE_CHECKING:
    from benchmarks.suite import Suite

app = group("Prompts to measure a model on.")
FORMATS = ("text", "jsonl")


def make_signs() -> Suite:
    """What the embedded model is measured on: one sign for each word that no training has seen."""
    from benchmarks.suite import Suite
    from dgpo.models.tiny.words import held_out_words, sign_prompts
    from rewards.prompt import Prompt

    prompts = tuple(Prompt(text) for text in sign_prompts(held_out_words()))
    return Suite("signs", prompts, "the embedded model's held-out words (dgpo/models/tiny)", ("ocr",))


BUILTIN = {"signs": make_signs}


def suite_names() -> list[str]:
    """What `--suite` knows by name, whatever lies in the current folder."""
    from benchmarks.suites import SUITES

    return [*BUILTIN, *SUITES]


def find_suite(name_or_path: str, data_dir: Path | None = None) -> Suite:
    """The suite of that name or file, those of this program included."""
    from benchmarks.suites import load_suite

    return load_suite(name_or_path, data_dir=data_dir, builtin=BUILTIN, announce=say)


@app.command("ls")
def list_all(data: DataFolder = None, as_json: AsJson = False) -> None:
    """List the suites, and what the absent ones need."""
    from dataclasses import asdict

    from benchmarks.suites import list_suites

    entries = list_suites(data_dir=data, builtin=BUILTIN)
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    rows = [
        (
            entry.name,
            entry.prompts,
            entry.sha256[:12],
            "no" if entry.missing else "yes",
            ", ".join(entry.default_rewards) or "-",
            entry.what,
            entry.source,
        )
        for entry in entries
    ]
    head = ("suite", "prompts", "sha256 of the prompts", "here", "default rewards", "what", "from")
    print_table(head, rows, expendable=("from", "sha256 of the prompts", "default rewards"))
    for entry in entries:
        if entry.missing:
            say(entry.missing)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A suite, or a prompt file.")],
    seed: Annotated[int | None, typer.Option(help="Draw other prompts by geneval's rules; 43 is published.")] = None,
    per_task: Annotated[
        int | None,
        typer.Option(
            help="Draws for each of geneval's tasks; 100 is published. single_object has all 80 objects always."
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", metavar="text|jsonl", help="How to print the prompts.")] = "text",
    data: DataFolder = None,
) -> None:
    """Print a suite's prompts, one per line; what it is goes to stderr."""
    from benchmarks.suites import SUITES, draw_suite

    if format not in FORMATS:
        raise UsageError(f'There is no format "{format}".{suggestion(format, FORMATS)}')
    suite = find_suite(name, data) if seed is None and per_task is None else draw_suite(name, seed, per_task)
    say(f"{suite.name}: {len(suite.prompts)} prompts, sha256 {suite.sha256}, from {suite.source}")
    for note in suite.notes:
        say(note)
    known = SUITES.get(name)
    for prompt in suite.prompts:
        print(prompt.text if format == "text" else known.published_line(prompt) if known else prompt.canonical)
