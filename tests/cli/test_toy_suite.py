"""The suite seam holds: a suite with a table of its own, written here, is measured by the real program."""

import json

import pytest
from PIL import Image

from benchmarks.known_suite import KnownSuite
from benchmarks.suite import Suite
from benchmarks.suite_table import PaperRow, PublishedTable, ScreenTable, SuiteTable, Written
from benchmarks.suites import SUITES
from rewards.prompt import Prompt
from tests.cli.toys import BRIGHT, dgpo

PROMPTS = (Prompt("snow", {"tag": "day"}), Prompt("milk", {"tag": "day"}), Prompt("coal", {"tag": "night"}))


class Sides(SuiteTable):
    """How much brighter day is than night."""

    name = "sides"

    @property
    def published(self):
        return PublishedTable("Sides", "by hand", ("Contrast",), (("perfect", ("1.00",)),), row)

    def write(self, folder, rows, prompts, record):
        contrast = measure(rows)
        (folder / "sides.txt").write_text(f"{record['run']} {contrast}\n")
        shown = ScreenTable(("Sides", record["run"]), (("contrast", contrast),), ("1 is perfect.",))
        return Written((shown,), {"contrast": contrast})


def measure(rows):
    score = {row.prompt: row.score for row in rows}
    return (score["snow"] + score["milk"]) / 2 - score["coal"]


def row(run):
    (key,) = run.scores
    return PaperRow(key, (f"{measure(run.scores[key].values()):.2f}",))


class Toy(KnownSuite):
    @property
    def source(self):
        return "here"

    @property
    def table(self):
        return Sides()

    def load(self, data_dir=None, announce=print):
        return self.check(Suite(self.name, PROMPTS, self.source, self.default_rewards, table=self.table))


TOY = Toy("toy", 3, Suite("toy", PROMPTS, "").sha256, "day and night", ("bright.py:Bright",))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(SUITES, "toy", TOY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bright.py").write_text(BRIGHT)
    for name, greys in {"grey": (255, 204, 51), "flat": (51, 51, 51)}.items():
        (tmp_path / name).mkdir()
        for prompt, grey in zip(PROMPTS, greys, strict=True):
            Image.new("RGB", (4, 4), (grey,) * 3).save(tmp_path / name / f"{prompt.id}_0.png")
    return tmp_path


def test_it_is_listed_measured_shown_and_compared(folder):
    assert "day and night" in dgpo("suites", "ls")
    words = ("eval", "--suite", "toy", "--workers", "0", "--output")
    said = dgpo(*words, "out", "--images", "grey")
    assert "contrast  0.7" in said
    assert "1 is perfect." in said
    document = dgpo(*words, "out2", "--images", "flat", "--json")
    assert json.loads(document[document.index("{") :])["sides"] == {"contrast": 0.0}
    dgpo("compare", "out", "out2", "--table", "table.md")
    table = (folder / "table.md").read_text()
    assert "| Model | Contrast |" in table
    assert [line in table for line in ("| perfect† | 1.00 |", "| grey a | 0.70 |", "| flat b | 0.00 |")] == [True] * 3
