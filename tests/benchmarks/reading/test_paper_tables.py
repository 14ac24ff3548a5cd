"""The paper's tables with rows of our own, from folders written by hand."""

import re

import pytest

from benchmarks.geneval.accuracy import PAPER_TABLE, TASKS
from benchmarks.reading import published
from benchmarks.reading.compare import compare, render_comparison
from benchmarks.reading.paper_tables import make_table, render_latex, render_markdown, write_table
from benchmarks.suite import Suite
from benchmarks.suites import load_suite
from rewards.errors import UsageError
from rewards.prompt import Prompt

SD35 = {"base": "stabilityai/stable-diffusion-3.5-medium"}
LIKE_THE_PAPER = {"model": SD35, "sampler": {"steps": 40, "height": 512, "width": 512}}


def small(name):
    return Suite(name, tuple(Prompt(text) for text in ("a cat", "a dog", "a bird")), "by hand")


def cells(values, seeds=1):
    """A score per prompt, the same for each seed; None for one that failed."""
    return {(number, seed): value for number, value in enumerate(values) for seed in range(seeds)}


def test_table_2_puts_suites_of_one_model_into_one_row(write_results):
    columns = {
        "aesthetic@1": cells([5.0, 6.0, 7.0], 5),
        "deqa@1": cells([4.0, None, 4.0], 5),
        "taste@1": cells([1] * 3, 5),
    }
    write_results("m", columns, of=small("drawbench"), folder="one", **LIKE_THE_PAPER)
    folder = write_results("m", {"ocr@1": cells([0.5, 1.0, 0.0])}, of=small("ocr"), folder="two", **LIKE_THE_PAPER)
    table = make_table([folder.with_name("one"), folder])
    assert table.heads == (
        "GenEval", "OCR", "PickScore (task)", "Aesthetic", "DeQA", "ImageReward", "PickScore", "UnifiedReward"
    )  # fmt: skip
    *printed, ours = table.lines
    assert [line.model for line in printed] == list(published.DRAWBENCH)
    assert {line.marks for line in printed} == {"†"}
    assert printed[-1].cells == ("", "", "23.89", "6.08", "4.40", "1.32", "23.91", "3.74")
    assert ours.model == "m"
    assert ours.cells[0] == ours.cells[2] == ours.cells[5] == ""
    few = r"\[-?\d+\.\d\d, \d+\.\d\d\] \([23] prompts\)"
    assert re.fullmatch(rf"0\.50 {few}", ours.cells[1])
    assert re.fullmatch(rf"6\.00 {few}", ours.cells[3])
    assert ours.cells[4] == "4.00 (2 prompts, all alike) (5 failed)"


def test_a_row_says_how_it_was_made_and_what_was_otherwise(write_results):
    folder = write_results(
        "m", {"aesthetic@1": cells([5.0, 6.0, 7.0], 2)}, of=small("drawbench"), model={"base": "tiny"}
    )
    (mark, note) = make_table([folder]).notes[-1]
    assert mark == " a‡"
    assert "drawbench: 3 prompts (sha256 " in note
    assert "aesthetic@1 by brass 1.0" in note
    assert "2 images per prompt of drawbench and not 5" in note
    assert "is not known to be stable-diffusion-3.5-medium" in note


@pytest.mark.parametrize("revision", ["", "@refs/pr/1"])
def test_a_row_made_like_the_published_ones_has_no_double_dagger(write_results, revision):
    from benchmarks.harness.record import read_record, write_record

    facts = {**LIKE_THE_PAPER, "model": {"base": f"{SD35['base']}{revision}"}}
    folder = write_results("m", {"aesthetic@1": cells([5.0, 6.0, 7.0], 5)}, of=small("drawbench"), **facts)
    write_record(folder, {**read_record(folder), "finished": True})
    assert make_table([folder]).lines[-1].marks == " a"


def test_published_rows_name_their_source_and_how_they_were_made(write_results):
    folder = write_results("m", {"aesthetic@1": cells([5.0, 6.0, 7.0])}, of=small("drawbench"))
    notes = dict(make_table([folder]).notes)
    assert "arXiv 2510.08425, Table 2" in notes["†"]
    assert "JPEG of quality 75" in notes["†"]
    assert "as 0.0" in notes["†"]


def test_table_1_has_the_published_rows_and_ours(write_results):
    suite = load_suite("geneval")
    verdicts = {(number, 0): float(number % 2) for number in range(553)}
    folder = write_results("m|1", {"geneval-official@1": verdicts}, of=suite)
    table = make_table([folder])
    assert table.heads == ("Overall", *TASKS.values())
    assert len(table.lines) == len(PAPER_TABLE) + 1
    assert table.lines[-2].cells == ("0.97", "1.00", "0.99", "0.97", "0.95", "0.99", "0.91")
    assert re.fullmatch(r"0\.50 \[0\.4\d, 0\.5\d\]", table.lines[-1].cells[0])
    assert render_markdown(table).count("m\\|1 a‡ |") == 1


def test_other_suites_stand_alone(write_results):
    folder = write_results("m", {"taste@1": cells([1.0, 2.0, None]), "depth@1": cells([None] * 3)}, of=small("signs"))
    table = make_table([folder])
    assert table.heads == ("taste@1", "depth@1")
    assert [line.cells for line in table.lines] == [("1.50 [-4.85, 7.85] (2 prompts) (1 failed)", "none (3 failed)")]
    assert "†" not in render_markdown(table)


def test_what_goes_into_no_table(write_results, tmp_path):
    signs = write_results("m", {"taste@1": cells([1.0] * 3)}, of=small("signs"), folder="a")
    again = write_results("m", {"taste@1": cells([1.0] * 3)}, of=small("signs"), folder="b")
    bench = write_results("m", {"taste@1": cells([1.0] * 3)}, of=small("drawbench"), folder="c")
    with pytest.raises(UsageError, match="one model and one suite"):
        make_table([signs, again])
    with pytest.raises(UsageError, match="into no table together"):
        make_table([signs, bench])
    with pytest.raises(UsageError, match="no score that is a column"):
        make_table([bench])
    with pytest.raises(UsageError, match=r"ends in \.md or \.tex"):
        write_table([signs], tmp_path / "table.csv")


def test_markdown_and_latex_hold_the_same_cells(write_results, tmp_path):
    folder = write_results("my_run & co", {"aesthetic@1": cells([5.0, 6.0, 7.0])}, of=small("drawbench"))
    table = write_table([folder], tmp_path / "new/paper.md")
    write_table([folder], tmp_path / "new/paper.tex")
    markdown = (tmp_path / "new/paper.md").read_text()
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(table.lines)
    assert {row.count("|") for row in rows} == {len(table.heads) + 2}
    assert "| SD3.5-M† | 0.63 | 0.59 | 21.72 | 5.39 | 4.07 | 0.87 | 22.34 | 3.33 |" in rows
    latex = render_latex(table)
    assert latex == (tmp_path / "new/paper.tex").read_text()
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(table.lines)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(table.heads)}
    assert r"SD3.5-M$^\dagger$ & 0.63 & 0.59 & 21.72 & 5.39" in latex
    assert r"my\_run \& co$^{\mathrm{a}}$$^\ddagger$ & -" in latex
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")


def test_names_of_runs_are_no_html_and_no_columns(write_results):
    name = "<img src=x onerror=alert(1)> a|b"
    folder = write_results(name, {"taste@1": cells([1.0, 2.0, 3.0])}, of=small("signs"), folder="odd")
    text = render_markdown(make_table([folder]))
    assert "<img" not in text
    assert r"| &lt;img src=x onerror=alert(1)&gt; a\|b" in text
    other = write_results("base", {"taste@1": cells([1.0, 2.5, 3.5])}, of=small("signs"))
    shown = render_comparison(compare([other, folder]))
    assert "<img" not in shown
    assert r"&gt; a\|b |" in shown
