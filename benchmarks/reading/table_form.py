"""A paper's table, in Markdown or LaTeX: a plain `tabular` with \\hline that needs no package."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.reading import markdown
from benchmarks.reading.markdown import plain

DAGGER, DOUBLE_DAGGER = "†", "‡"
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


def render_markdown(table: Table) -> str:
    lines = [(line.model + line.marks, *(cell or "-" for cell in line.cells)) for line in table.lines]
    body = markdown.render_markdown(("Model", *table.heads), lines)
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


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _latex_marks(marks: str) -> str:
    return "".join(
        LATEX.get(mark, f"$^{{\\mathrm{{{mark}}}}}$") for mark in re.findall(rf"[a-z]+|{DAGGER}|{DOUBLE_DAGGER}", marks)
    )
