"""`dgpo score` through the real command: what is printed, written, left after a Ctrl-C, and refused."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from benchmarks.harness.store import COLUMNS
from cli.commands import app
from rewards.prompt import Prompt

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_family"
SLOW = """
import time
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Slow(Reward):
    card = Card(
        name="slow", version=1, unit="pixels", bounds=(0, None), higher_is_better=True, summary="width",
        reads_prompt=False,
    )

    def score(self, images, prompts):
        time.sleep(0.05 * len(images))
        return [Score(image.width) for image in images]
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["score", *map(str, words), "--workers", "0"])


@pytest.fixture
def signs(tmp_path):
    """Three signs, the third of them a torn file; the first stands under two prompts, and a fourth is not there."""
    folder = tmp_path / "signs"
    folder.mkdir()
    for word in ("cat", "dog", "sun"):
        image = Image.new("RGB", (160, 64), "white")
        ImageDraw.Draw(image).text((80, 32), word, fill="black", font=ImageFont.load_default(size=36), anchor="mm")
        image.save(folder / f"{word}.png")
    torn = folder / "sun.png"
    torn.write_bytes(torn.read_bytes()[:300])
    rows = [("cat.png", "cat"), ("cat.png", "cow"), ("dog.png", "dog"), ("sun.png", "sun"), ("gone.png", "hat")]
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "prompt"))
        writer.writerows((name, f'a sign that says "{word}"') for name, word in rows)
    return folder


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_folder_with_metadata_into_a_file_with_failures_as_rows(run, signs, tmp_path):
    words = ["--reward", "ocr", "--reward", "imagestats.dark", "--images", signs, "--output", "out/scores.csv"]
    done = run(*words)
    assert done.exit_code == 5
    rows = read((tmp_path / "out/scores.csv").read_text())
    assert list(rows[0]) == list(COLUMNS)
    read_by_ocr = [(Path(row["image"]).name, row["score"], row["status"]) for row in rows if row["reward"] == "ocr@1"]
    assert [(name, status) for name, _, status in read_by_ocr] == [
        ("cat.png", "ok"),
        ("cat.png", "ok"),
        ("dog.png", "ok"),
        ("sun.png", "failed"),
        ("gone.png", "missing"),
    ]
    assert [float(score) for _, score, _ in read_by_ocr[:3]] == pytest.approx([1.0, 1 / 3, 1.0])
    assert [score for _, score, _ in read_by_ocr[3:]] == ["", ""]
    assert "0.778" in done.stdout
    assert "1 image without a score: the image is damaged" in done.stdout
    assert "2 of 5 images could not be scored, and --max-failed is 0" in done.stderr
    assert "5/5 images" in done.stderr
    assert run(*words, "--max-failed", 2).exit_code == 0


def test_without_output_the_csv_is_the_answer(run, signs):
    done = run("--reward", "imagestats", signs / "cat.png", "--images", signs / "dog.png")
    assert done.exit_code == 0, done.stderr
    rows = read(done.stdout)
    assert [(Path(row["image"]).name, row["reward"]) for row in rows] == [
        (f"{name}.png", f"imagestats.{what}@1") for name in ("dog", "cat") for what in ("dark", "edges", "colours")
    ]
    assert {row["prompt"] for row in rows} == {""}
    assert "imagestats.dark@1 0." in done.stderr


def test_json_is_one_document(run, signs):
    document = json.loads(run("--reward", "ocr", "--images", signs, "--json").stdout)
    assert (document["images"], document["failed"], document["output"]) == (5, 2, None)
    (reward,) = document["rewards"]
    assert (reward["reward"], reward["scored"], reward["failed"]) == ("ocr@1", 3, 2)
    assert reward["mean"] == pytest.approx(7 / 9)
    assert reward["provenance"]["engine"] == "rapidocr"
    assert [row["status"] for row in document["scores"]] == ["ok", "ok", "ok", "failed", "missing"]


def test_names_with_prompt_ids_are_looked_up(run, prompt_file, tmp_path):
    prompt = Prompt('a red sign that says "cat"')
    Image.new("RGB", (64, 32), "white").save(tmp_path / f"{prompt.id}_4.png")
    words = ["--reward", "ocr", tmp_path / f"{prompt.id}_4.png"]
    (row,) = read(run(*words, "--prompts", prompt_file).stdout)
    assert (row["prompt"], row["prompt_id"], row["seed"], row["score"]) == (prompt.text, prompt.id, "4", "0.0")
    refused = run(*words)
    assert refused.exit_code == 2
    assert "--prompt TEXT" in refused.stderr


def test_network_rewards_from_weights_folders(run, tmp_path):
    """The recorded PickScore and Aesthetic of the tiny checkpoints, through the command."""
    names = ("pickscore", "aesthetic")
    weights = [word for name in names for word in ("--weights", f"{name}={GOLDEN / name}")]
    rewards = [word for name in names for word in ("--reward", name)]
    text = json.loads((GOLDEN / "prompts.json").read_text())[0]
    done = run(*rewards, *weights, "--images", GOLDEN / "images", "--prompt", text)
    assert done.exit_code == 0, done.stderr
    rows = read(done.stdout)
    assert len(rows) == 16
    from rewards.parse import parse_rewards
    from rewards.registry import load

    specs = parse_rewards(names, weights=weights[1::2])
    paths = sorted((GOLDEN / "images").iterdir())
    for spec in specs:
        reward = load(spec)
        for row, path in zip([row for row in rows if row["reward"] == spec.key], paths, strict=True):
            with Image.open(path) as image:
                (score,) = reward.score([image], [Prompt(text)])
            assert float(row["score"]) == pytest.approx(score.value, abs=1e-4)


def test_interrupted_command_keeps_its_rows_and_goes_on(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    folder = tmp_path / "images"
    folder.mkdir()
    for place in range(80):
        Image.new("RGB", (place + 1, 2)).save(folder / f"{place:02d}.png")
    words = [sys.executable, "-m", "cli.main", "score", "--reward", f"{tmp_path}/slow.py:Slow", "--images", str(folder)]
    words += ["--output", str(tmp_path / "out.csv")]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=variables)
    draft = tmp_path / "out.csv.draft" / "scores.csv"
    deadline = time.monotonic() + 100
    while not draft.exists() or len(read(draft.read_text())) < 16:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    kept = read(draft.read_text())
    assert 16 <= len(kept) < 80
    assert not (tmp_path / "out.csv").exists()

    done = subprocess.run(words, capture_output=True, text=True, env=variables, timeout=100)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} scores are there" in done.stderr
    rows = read((tmp_path / "out.csv").read_text())
    assert [float(row["score"]) for row in rows] == list(range(1, 81))
    assert rows[: len(kept)] == kept
    assert not draft.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--reward", "ocr"], 2, "which images to score"),
        (["--images", "."], 2, "by what to score: --reward NAME"),
        (["--reward", "orc", "--images", "."], 2, 'Did you mean "ocr"?'),
        (["--reward", "ocr", "--images", "absent"], 2, "no such folder or image"),
        (["--reward", "ocr", "--images", "IMAGES", "--prompt", "a", "--prompts", "x.txt"], 2, "no such prompt file"),
        (["--reward", "imagestats.dark", "--images", "IMAGES", "--output", "notes.csv"], 2, "is left alone"),
        (["--reward", "pickscore", "--images", "IMAGES", "--weights", "pickscore=absent"], 3, "pickscore@1"),
        (["--reward", "ocr", "--reward-set", "ocr.enigne=x", "--images", "."], 2, 'Did you mean "engine"?'),
        (["--reward", "imagestats=much", "--images", "."], 2, "weight behind = is a number"),
        (["--reward", "ocr=0.5", "--images", "."], 2, "a weight is for a training mix"),
    ],
)
def test_wrong_use_is_a_sentence_before_anything_is_scored(run, signs, tmp_path, words, code, said):
    (tmp_path / "notes.csv").write_text("mine\n")
    done = run(*(str(signs) if word == "IMAGES" else word for word in words))
    assert done.exit_code == code, done.stderr
    assert said in done.stderr
    assert (tmp_path / "notes.csv").read_text() == "mine\n"


@pytest.mark.parametrize(("command", "taken"), [("train", True), ("eval", False), ("score", False), ("serve", False)])
def test_only_help_of_what_takes_weights_speaks_of_them(command, taken):
    help = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    assert ("=WEIGHT behind it" in help) == taken


def test_devices_and_pipes_are_written_to_and_links_followed(run, signs, tmp_path):
    words = ["--reward", "imagestats.dark", signs / "cat.png"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        written = threads.submit(pipe.read_text)
        assert run(*words, "--output", pipe).exit_code == 0
        assert [row["status"] for row in csv.DictReader(io.StringIO(written.result()))] == ["ok"]
    assert pipe.is_fifo()
    (tmp_path / "null").symlink_to("/dev/null")
    assert run(*words, "--output", tmp_path / "null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link.csv").symlink_to("there.csv")
    assert run(*words, "--output", tmp_path / "link.csv").exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len(read_file(tmp_path / "there.csv")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "null", "pipe", "signs", "there.csv"]
    done = run(*words, "--output", "/dev/stdout")
    assert done.exit_code == 0
    assert len(read(done.stdout)) == 1


def read_file(path):
    return read(path.read_text())


def test_a_terminal_is_not_steered_by_what_was_scored():
    """A file's name and a judge's words are written out there; elsewhere they are as they were."""
    from benchmarks.harness.store import OK, Row
    from cli.score import _write_rows

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    row = Row("", "", "", "id", "a cat", 0, "\x1b[2J.png", "", "ocr@1", 1.0, OK, "read \x1b[31mred\nand more", 0.1)
    written = {}
    for stream in (Terminal(), io.StringIO()):
        assert list(_write_rows(iter([(0, [row])]), stream)) == [(0, [row])]
        written[stream.isatty()] = stream.getvalue()
    assert "\x1b" not in written[True]
    assert "\\x1b[2J.png" in written[True]
    assert "read \\x1b[31mred\nand more" in written[True]
    assert "\x1b[2J.png" in written[False]
