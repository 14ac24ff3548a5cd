"""`dgpo compare` on folders that `dgpo eval` wrote."""

import csv
import json
import shutil

import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from cli.commands import app
from cli.compare import parse_margins
from rewards.errors import UsageError
from rewards.prompt import Prompt

WORDS = ("cat", "dog", "sun", "hat", "map", "red", "tea", "box")
PROMPTS = [f'a sign that says "{word}"' for word in WORDS]


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def evaluate(folder, drawn):
    """Results in `folder` of pictures that say, prompt by prompt, the words `drawn`."""
    suite, images = folder.with_suffix(".txt"), folder.with_name(f"{folder.name}-images")
    suite.write_text("\n".join(PROMPTS))
    images.mkdir()
    for text, word in zip(PROMPTS, drawn, strict=True):
        image = Image.new("RGB", (160, 64), "white")
        ImageDraw.Draw(image).text((80, 32), word, fill="black", font=ImageFont.load_default(size=36), anchor="mm")
        image.save(images / f"{Prompt(text).id}_0.png")
    done = run("eval", "--suite", suite, "--images", images, "--reward", "ocr", "--workers", 0, "--output", folder)
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """`good` reads in full, `bad` is right on one of eight."""
    folder = tmp_path_factory.mktemp("results")
    evaluate(folder / "good", WORDS)
    evaluate(folder / "bad", ("cat", *["vwk"] * 7))
    return folder


def test_table_and_power_on_stdout(results):
    done = run("compare", results / "good", results / "bad")
    assert done.exit_code == 0
    assert "| worse" in done.stdout
    assert "] (8 prompts) |" in done.stdout
    assert "A true difference of this size is shown at least four times in five" in done.stdout
    assert "nobody recorded how its images were drawn" in done.stdout


def test_files_are_written_where_asked(results, tmp_path):
    table, picture = tmp_path / "new/compare.csv", tmp_path / "pictures/side.png"
    done = run("compare", results / "bad", results / "good", "--output", table, "--picture", picture)
    assert done.exit_code == 0, done.stderr
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["base"], row["run"], row["verdict"]) == ("bad-images", "good-images", "better")
    assert float(row["delta"]) == float(row["run_mean"]) - float(row["base_mean"]) > 0.8
    assert Image.open(picture).width > 2 * 256
    assert str(table) in done.stderr
    assert str(picture) in done.stderr


def test_precision_is_asked_about_once_and_then_noted_everywhere(results, tmp_path):
    folders = [tmp_path / name for name in ("fp32", "bf16")]
    for folder in folders:
        shutil.copytree(results / "good", folder)
        record = json.loads((folder / "run.json").read_text())
        record["sampler"] = {"steps": 10, "dtype": folder.name}
        (folder / "run.json").write_text(json.dumps(record))
    refused = run("compare", *folders)
    assert refused.exit_code == 2
    assert "(dtype fp32 and bf16)" in refused.stderr
    files = [tmp_path / f"c{ending}" for ending in (".csv", ".png", ".html")]
    words = [word for pair in zip(("--output", "--picture", "--html"), files, strict=True) for word in pair]
    done = run("compare", *folders, "--any-sampler", *words)
    assert done.exit_code == 0, done.stderr
    note = "were drawn by other sampler settings (dtype fp32 and bf16), which may make a difference"
    assert note in done.stdout
    assert note in files[2].read_text()
    assert "cannot be compared" not in done.stdout


def test_gate_fails_only_when_asked_and_worse(results):
    good, bad = results / "good", results / "bad"
    assert run("compare", good, bad).exit_code == 0
    done = run("compare", good, bad, "--fail-if-worse")
    assert done.exit_code == 4
    assert "bad-images in ocr@1" in done.stderr
    assert run("compare", bad, good, "--fail-if-worse").exit_code == 0
    assert run("compare", good, bad, "--fail-if-worse", "--margin", "ocr=1.5").exit_code == 0


def test_json_is_one_document(results):
    document = json.loads(run("compare", results / "good", results / "bad", "--json").stdout)
    assert document["rows"][0]["verdict"] == "worse"
    assert len(document["power"]) == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "needs at least two"),
        (("absent",), "There is no folder"),
        (("empty",), "holds no run.json"),
        (("made.csv",), "is a file, and results are a folder"),
        (("training",), "is a training run. Measure its model first: dgpo eval --suite NAME --model"),
        (("bad", "--margin", "orc=0.1"), 'Did you mean "ocr"?'),
        (("bad", "--margin", "ocr"), "--margin takes NAME=X"),
        (("bad", "--output", "table.txt"), "ends so"),
        (("bad", "--picture", "table.csv"), "ends so"),
    ],
)
def test_wrong_use_ends_with_2(results, words, hint):
    (results / "empty").mkdir(exist_ok=True)
    (results / "training/checkpoints").mkdir(parents=True, exist_ok=True)
    (results / "made.csv").write_text("run,suite\n")
    places = ("bad", "absent", "empty", "training", "made.csv")
    folders = [results / word if word in places else word for word in words]
    done = run("compare", results / "good", *folders)
    assert done.exit_code == 2, done.stdout
    assert hint in done.stderr


def test_nothing_to_compare_is_said():
    done = run("compare")
    assert done.exit_code == 2
    assert "Missing argument 'DIR_A DIR_B ...'" in done.stderr


def test_margins_are_numbers():
    assert parse_margins(["ocr=0.02", "ocr-strict=1"]) == {"ocr": 0.02, "ocr-strict": 1.0}
    with pytest.raises(UsageError, match="takes a number"):
        parse_margins(["ocr=much"])


def test_table_and_findings(results, tmp_path):
    table = tmp_path / "paper/signs.tex"
    done = run("compare", results / "bad", results / "good", "--table", table)
    assert done.exit_code == 0, done.stderr
    assert r"\begin{tabular}" in table.read_text()
    assert str(table) in done.stderr
    assert "unknown: Training prompts in the suite." in done.stdout
    assert "fine: " not in done.stdout
    findings = json.loads(run("compare", results / "bad", results / "good", "--json").stdout)["findings"]
    assert {one["verdict"] for one in findings} >= {"fine", "unknown"}
    assert all(set(one) == {"title", "verdict", "sentence", "head", "rows"} for one in findings)


@pytest.mark.parametrize(
    ("words", "hint"), [(("--table", "t.html"), ".md or .tex"), (("--also", "x"), "name that file too")]
)
def test_wrong_use_of_tables(results, words, hint):
    done = run("compare", results / "bad", results / "good", *words)
    assert done.exit_code == 2
    assert hint in done.stderr


def test_a_page_of_two_runs_and_of_one(results, tmp_path):
    both, one = tmp_path / "both.html", tmp_path / "pages/one.html"
    done = run("compare", results / "bad", results / "good", "--html", both)
    assert done.exit_code == 0, done.stderr
    assert f"wrote {both}" in done.stderr
    assert "| better" in done.stdout
    assert "<title>bad-images and good-images on bad</title>" in both.read_text(encoding="utf-8")
    done = run("compare", results / "bad", "--html", one)
    assert done.exit_code == 0, done.stderr
    assert "<title>bad-images on bad</title>" in one.read_text(encoding="utf-8")


def test_one_folder_is_for_a_page_only(results, tmp_path):
    assert "at least two results folders" in run("compare", results / "bad").output
    done = run("compare", results / "bad", "--html", tmp_path / "one.html", "--fail-if-worse")
    assert done.exit_code == 2
    assert "Name a second folder" in done.output
    assert "name a file that ends so" in run("compare", results / "bad", "--html", tmp_path / "one.htm").output


def test_in_a_terminal_the_table_has_its_width(results, monkeypatch):
    """Whole and in Markdown through a pipe; on 80 columns no line is broken, and what is left out is told."""
    monkeypatch.setattr("cli.compare.terminal_width", lambda: 80)
    monkeypatch.setattr("cli.screen.terminal_width", lambda: 80)
    table, _, rest = run("compare", results / "bad", results / "good").stdout.partition("\n\n")
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:2] == ["run", "reward"]
    assert "better" in lines[1]
    assert "base (bad-images)" in " ".join(lines[-2:])
    assert rest.startswith('domain: "in" where the run was trained on that reward. wins:')
