"""Every command where the operating system refuses: a sentence with the file's name, exit 3, and no half files."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.harness.store import load_scores
from cli.commands import app
from cli.disk import explain
from rewards.exits import READER_GONE

ROOT = Path(__file__).parents[2]
SMALL = ["--set", "training.dtype=fp32", "--set", "sampling.steps=2"]


@contextmanager
def largest_file(size):
    """A disk on which no file grows beyond so many bytes; nobody need be root for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def dgpo(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(30):
        Image.new("RGB", (8, 8), (8 * number, 0, 0)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two small results folders."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "p.txt").write_text("a cat\na dog\n")
    for name in ("a", "b"):
        (folder / name).mkdir()
        rows = ["file_name,prompt,seed"]
        for number, text in enumerate(("a cat", "a dog")):
            Image.new("RGB", (8, 8), (100 * number, 50, 0)).save(folder / name / f"{number}.png")
            rows.append(f"{number}.png,{text},0")
        (folder / name / "metadata.csv").write_text("\n".join(rows))
        words = ("--images", folder / name, "--reward", "imagestats", "--output", folder / f"{name}-results")
        assert dgpo("eval", "--suite", folder / "p.txt", *words, "--workers", "0").exit_code == 0
    return folder


def commands(tmp_path, results, images):
    """Each command that writes, without the place of its output."""
    compared = (results / "a-results", results / "b-results")
    return {
        "score": ("score", "--images", images, "--reward", "imagestats", "--workers", "0", "--output"),
        "eval": (
            *("eval", "--suite", results / "p.txt", "--images", results / "a", "--reward", "imagestats"),
            *("--workers", "0", "--output"),
        ),
        "sample": ("sample", "--prompt", "a sign", "--set", "sampling.steps=1", "--output"),
        "train": ("train", "--reward", "ocr", "--steps", "1", *SMALL, "--output"),
        "output": ("compare", *compared, "--output"),
        "html": ("compare", *compared, "--html"),
        "picture": ("compare", *compared, "--picture"),
        "table": ("compare", *compared, "--table"),
    }


ENDINGS = {"score": ".csv", "sample": ".png", "output": ".csv", "html": ".html", "picture": ".png", "table": ".md"}
COMMANDS = ("score", "eval", "sample", "train", "output", "html", "picture", "table")


def everything(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/below/it", "a part of its path is a file"), ("x" * 253, "its name is too long"), ("full", "larger than")],
)
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    tmp_path, results, images, monkeypatch, command, place, reason
):
    def never(*words, **more):
        raise AssertionError("a model, a reward or a table was made for nothing")

    for work in ("cli.sample.load_choice", "cli.eval.choose_rewards", "cli.score._score", "cli.train.run_training"):
        monkeypatch.setattr(work, never)
    monkeypatch.setattr("benchmarks.reading.compare.compare", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    words = commands(tmp_path, results, images)[command]
    before = everything(tmp_path)
    with largest_file(100 if place == "full" else 2**30):
        done = dgpo(*words, tmp_path / (place + ENDINGS.get(command, "-and-more")))
    assert done.exit_code == 3, done.output
    assert done.stderr.startswith("dgpo: ")
    assert reason in done.stderr
    assert place in done.stderr
    assert everything(tmp_path) == before


@pytest.mark.parametrize("command", ["score", "eval", "html", "picture", "output"])
def test_a_disk_that_fills_up_loses_nothing_and_leaves_no_halves(tmp_path, results, images, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rewards.files._TRIAL", 1)  # so that the trial at the start passes
    words = commands(tmp_path, results, images)[command]
    place = tmp_path / f"made{ENDINGS.get(command, '')}"
    with largest_file({"score": 5000, "eval": 500}.get(command, 100)):
        done = dgpo(*words, place)
    assert done.exit_code == 3, done.output
    assert "it would be larger than a file may be here" in done.stderr
    assert not [path for path in everything(tmp_path) if path.endswith(".partial")]
    if command not in ("score", "eval"):
        assert not place.exists()
    assert dgpo(*words, place).exit_code == 0
    assert place.exists()


def test_scores_go_on_after_a_full_disk(tmp_path, results, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = commands(tmp_path, results, images)["score"]
    with largest_file(12_000):  # room for the first of two batches
        assert dgpo(*words, "s.csv").exit_code == 3
    done = dgpo(*words, "s.csv")
    assert "going on from" in done.stderr
    (tmp_path / "again").mkdir()
    (tmp_path / "s.csv").rename(tmp_path / "again" / "scores.csv")
    assert load_scores(tmp_path / "again")["status"].tolist() == ["ok"] * 90


@pytest.mark.parametrize("words", [("suites", "ls"), ("score", "--reward", "imagestats", "--prompt", "x", "a.png")])
def test_a_folder_that_is_gone_under_the_command_is_told(tmp_path, monkeypatch, words):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = dgpo(*words)
    assert result.exit_code == 3
    assert "The folder this command was started in cannot be found any more" in result.stderr
    assert result.stdout == ""


def test_an_error_of_another_kind_is_a_bug():
    assert explain(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert explain(OSError("no number")) is None
    assert explain(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None
    assert (
        explain(BrokenPipeError(errno.EPIPE, "Broken pipe", "pipe.csv")) == "pipe.csv: whoever reads from it has gone."
    )
    assert str(explain(OSError(errno.ENOSPC, "full"))).startswith(
        "a file, or the standard output: there is no space left"
    )


def start(*words, folder, stdout) -> Any:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cli.main import main; main()"
    program = [sys.executable, "-P", "-c", code, *map(str, words)]
    return subprocess.Popen(program, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_a_reader_that_leaves_is_not_told(tmp_path):
    with start("suites", "show", "geneval", folder=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith("a photo of")
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode in (0, READER_GONE)  # 0: the pipe took all of it before
    assert "Traceback" not in said
    assert "Exception" not in said


def test_a_reader_that_was_never_there(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with start("suites", "show", "geneval", folder=tmp_path, stdout=write) as process:
        os.close(write)
        said = process.stderr.read()
    assert process.returncode == READER_GONE
    assert all(line.startswith("dgpo: geneval") for line in said.splitlines())


def test_any_text_is_printed_in_any_locale(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    (tmp_path / "p.txt").write_text("a sign that says 你好\n", encoding="utf-8")
    with start("suites", "show", "p.txt", folder=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.buffer.read().decode() == "a sign that says 你好\n"
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


def test_a_full_standard_output_is_told(tmp_path):
    with open("/dev/full", "w") as full, start("recipes", "ls", folder=tmp_path, stdout=full) as process:
        said = process.stderr.read()
    assert process.returncode == 3
    assert (
        said == "dgpo: a file, or the standard output: there is no space left on its disk. Free some, or choose "
        "another place.\n"
    )
