"""Random bytes in every file that is read, random values for every setting: commands end in a sentence, never in a bug.

Each case follows from its kind and number alone, so a failure is repeated by its name.
"""

import io
import json
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.commands import app
from dgpo.config import RECIPES, load_config, setting_names
from dgpo.run import Run

ENDINGS = {0, 2, 3, 5}
NASTY = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\x85", "\u2028".encode(), b"\x1b[2J", b'"', b"'", b",",
    b"\t", b"{", b"}", b"[" * 200_000, b'{"a":' * 5_000, b"NaN", b"1e999", b"9" * 5_000, b"x" * 140_000,
    b"\xed\xa0\x80", b"\\ud800", b"null", b"&a [*a]", b"!!python/object/apply:os.system [ls]", b"../../..",
    b"\n\n\n", b"-1", b"true",
)  # fmt: skip
VALUES = (
    "", " ", "0", "-1", "1", "2.5", "1e400", ".inf", "-.inf", ".nan", "nan", "9" * 30, "9" * 5_000, "010", "1:30",
    "yes", "true", "null", "~", "[]", "[[]]", "{}", "{a: 1}", "[1, 2]", "[1.0, 1.0]", "x", "x" * 5_000, "\u2028",
    "\ud800", "\x1b[2J", "é", "\n", "'", '"', "*a", "&a b", "!!int x", "!x", "- a", "../..", "/dev/null",
    "~nobody/x", "http://127.0.0.1:9/x", "a=b", "[x", "@",
)  # fmt: skip
PLUGIN = """
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Bright(Reward):
    card = Card(name="bright", version=1, unit="grey", bounds=(0, 255), higher_is_better=True, train_scale=1 / 255,
                summary="mean of the pixels", reads_prompt=False)

    def score(self, images, prompts):
        return [Score(float(sum(image.convert("L").resize((1, 1)).getdata()))) for image in images]
"""
PROMPTS = 'a red sign that says "cat"\na blue sign that says "dog"\n'
FEW = ("--reward", "bright.py:Bright", "--set", "evaluation.every=0")
QUICK = ("--set", "sampling.steps=1", "--set", "sampling.height=32", "--set", "sampling.width=64",
         "--set", "sampling.guidance=1")  # fmt: skip

Case = Callable[[random.Random, Path], list[str]]


def garble(chance: random.Random, sound: bytes) -> bytes:
    """A sound file changed, cut, joined with what programs trip over, or replaced by noise."""
    data = bytearray(sound)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randint(0, len(data))
        how = chance.randrange(6)
        if how == 0:
            data[place : place + chance.randint(1, 20)] = chance.randbytes(chance.randint(0, 20))
        elif how == 1:
            data[place:place] = chance.choice(NASTY)
        elif how == 2:
            del data[place:]
        elif how == 3:
            data[place:place] = data[: chance.randint(0, 200)]
        elif how == 4:
            data = bytearray(chance.choice(NASTY))
        else:
            data = bytearray(chance.randbytes(chance.randint(0, 500)))
    return bytes(data)


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def picture(kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(data, kind)
    return data.getvalue()


def prompts_in(chance: random.Random, place: Path) -> Path:
    ending = chance.choice((".txt", ".jsonl", ".csv"))
    sound = {
        ".txt": PROMPTS.encode(),
        ".jsonl": b'{"prompt": "a cat", "tag": "single_object", "include": [{"class": "cat", "count": 1}]}\n' * 2,
        ".csv": b'prompt,more\r\n"a cat, sitting",1\r\na dog,2\r\n',
    }[ending]
    put(place / f"in{ending}", garble(chance, sound))
    return place / f"in{ending}"


def show_suite(chance: random.Random, place: Path) -> list[str]:
    return ["suites", "show", str(prompts_in(chance, place)), "--format", chance.choice(("text", "jsonl"))]


def show_drawn_suite(chance: random.Random, place: Path) -> list[str]:
    return ["suites", "show", "geneval", "--per-task", chance.choice(("0", "-1", "1", "x")), "--seed", number(chance)]


def number(chance: random.Random) -> str:
    return chance.choice(("0", "-1", "7", "4294967296", "9" * 30, "9" * 5_000, "1.5", "x", ""))


def train_on_prompts(chance: random.Random, place: Path) -> list[str]:
    return ["train", *FEW, "--prompts", str(prompts_in(chance, place)), "--dry-run"]


def train_by_recipe(chance: random.Random, place: Path) -> list[str]:
    sound = (RECIPES / "ocr.yaml").read_bytes()
    put(place / "in.yaml", garble(chance, sound))
    return ["train", "--recipe", "in.yaml", "--reward", "bright.py:Bright", "--prompts", "sound.txt", "--dry-run"]


def show_recipe(chance: random.Random, place: Path) -> list[str]:
    put(place / "in.yaml", garble(chance, b"steps: 3\nsampling:\n  steps: 2\n"))
    return ["recipes", "show", chance.choice(("in.yaml", chance.choice(VALUES)))]


def train_with_settings(chance: random.Random, place: Path) -> list[str]:
    words = ["train", *FEW]
    for _ in range(chance.choice((1, 1, 3))):
        name = chance.choice([*setting_names(), "sampling", "optimizer.betas.0", "", ".", "nothing"])
        words += ["--set", f"{name}={chance.choice(VALUES)}"]
    return [*words, "--dry-run"]


def train_with_options(chance: random.Random, place: Path) -> list[str]:
    words = ["train", *(() if chance.random() < 0.5 else FEW)]
    for _ in range(chance.choice((1, 2))):
        option = chance.choice(
            ("--reward", "--reward-set", "--weights", "--model", "--recipe", "--algorithm", "--set", "--prompts",
             "--output", "--steps", "--seed", "--max-failed", "--stop-when", "--num-processes", "--data")
        )  # fmt: skip
        words += [option, chance.choice(VALUES)]
    return [*words, "--dry-run"]


def train_in_a_damaged_run(chance: random.Random, place: Path) -> list[str]:
    damaged_run(chance, place)
    return ["train", *FEW, "--output", "run", "--dry-run"]


def damaged_run(chance: random.Random, place: Path) -> None:
    run = Run(place / "run")
    run.folder.mkdir()
    run.begin(load_config("tiny", {"rewards": ["ocr"], "evaluation.every": 0}), {"contents": {}}, fresh=False)
    run.record({"step": 1, "reward": 0.5})
    put(run.checkpoints / "step-000001/manifest.json", b'{"trainer.safetensors": "0", "state.json": "1"}')
    for name in ("config.yaml", "run.json", "metrics.jsonl", "checkpoints/step-000001/manifest.json"):
        if chance.random() < 0.5:
            put(run.folder / name, garble(chance, (run.folder / name).read_bytes()))


def draw_from_a_damaged_run(chance: random.Random, place: Path) -> list[str]:
    damaged_run(chance, place)
    return ["sample", "--model", chance.choice(("run", "run@1", "run@99")), "--prompt", "x", *QUICK]


def draw_from_a_damaged_model(chance: random.Random, place: Path) -> list[str]:
    folder = shutil.copytree(place / "model", place / "copy")
    name = chance.choice(("model_index.json", "vae/config.json", "scheduler/scheduler_config.json",
                          "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "transformer/config.json",
                          "text_encoder/model.safetensors"))  # fmt: skip
    put(folder / name, garble(chance, (folder / name).read_bytes()))
    return ["sample", "--model", "copy", "--prompt", "x", *QUICK]


def draw_with_options(chance: random.Random, place: Path) -> list[str]:
    option = chance.choice(("--model", "--set", "--seed", "--output", "--dtype"))
    value = chance.choice(VALUES)
    if option == "--set":
        value = f"sampling.{chance.choice(('steps', 'guidance', 'height', 'sampler', 'x', ''))}={value}"
    return ["sample", "--model", "./nothere", "--prompt", chance.choice(VALUES), option, value]


def score_pictures(chance: random.Random, place: Path) -> list[str]:
    for name in ("a.png", "b.jpg", "c.webp"):
        kind = {"a.png": "PNG", "b.jpg": "JPEG", "c.webp": "WEBP"}[name]
        put(place / "pictures" / name, garble(chance, picture(kind)))
    return ["score", "--reward", "imagestats", "--images", "pictures", "--prompt", "x", "--workers", "0"]


def score_by_metadata(chance: random.Random, place: Path) -> list[str]:
    put(place / "pictures/a.png", picture())
    put(place / "pictures/metadata.csv", garble(chance, b"file_name,prompt\r\na.png,a cat\r\n"))
    return ["score", "--reward", "imagestats", "--images", "pictures", "--workers", "0"]


def score_onto_a_table(chance: random.Random, place: Path) -> list[str]:
    put(place / "pictures/a.png", picture())
    words = ["score", "--reward", "imagestats.dark", "--images", "pictures", "--prompt", "x", "--workers", "0"]
    CliRunner().invoke(app, [*words, "--output", "out.csv"])
    put(place / "out.csv", garble(chance, (place / "out.csv").read_bytes()))
    return [*words, "--output", chance.choice(("out.csv", "pictures", chance.choice(VALUES)))]


def score_with_options(chance: random.Random, place: Path) -> list[str]:
    put(place / "pictures/a.png", picture())
    option = chance.choice(
        ("--reward", "--reward-set", "--weights", "--images", "--prompts", "--prompt", "--max-failed")
    )
    return ["score", "--reward", "imagestats", "--images", "pictures", "--workers", "0", option, chance.choice(VALUES)]


def evaluate_pictures(chance: random.Random, place: Path) -> list[str]:
    put(place / "pictures/a.png", picture())
    put(
        place / "pictures/metadata.csv", garble(chance, b'file_name,prompt\r\na.png,"a red sign that says ""cat"""\r\n')
    )
    return ["eval", "--suite", str(prompts_in(chance, place)), *found_pictures()]


def found_pictures() -> list[str]:
    return ["--images", "pictures", "--reward", "imagestats", "--workers", "0", "--output", "results"]


def evaluate_onto_results(chance: random.Random, place: Path) -> list[str]:
    make_results(place, "results")
    damage_results(chance, place / "results")
    return ["eval", "--suite", "sound.txt", *found_pictures()]


def make_results(place: Path, name: str) -> None:
    put(place / "pictures/a.png", picture())
    put(place / "pictures/b.png", picture())
    put(
        place / "pictures/metadata.csv",
        b'file_name,prompt\r\na.png,"a red sign that says ""cat"""\r\nb.png,"a blue sign that says ""dog"""\r\n',
    )
    words = ["eval", "--suite", "sound.txt", *found_pictures(), "--output", name]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr


def damage_results(chance: random.Random, folder: Path) -> None:
    for name in ("scores.csv", "run.json", "summary.csv"):
        if chance.random() < 0.6:
            put(folder / name, garble(chance, (folder / name).read_bytes()))


def compare_results(chance: random.Random, place: Path) -> list[str]:
    make_results(place, "A")
    shutil.copytree(place / "A", place / "B")
    damage_results(chance, place / "B")
    more = chance.choice(
        ([], ["--html", "page.html"], ["--table", "t.md"], ["--margin", chance.choice(VALUES)], ["--json"])
    )
    return ["compare", chance.choice(("A", "A/scores.csv", "nothere")), "B", *more]


def look_at_a_reward(chance: random.Random, place: Path) -> list[str]:
    put(place / "mine.py", garble(chance, PLUGIN.encode()))
    name = chance.choice(("mine.py:Bright", "mine.py", "bright.py:Nothing", chance.choice(VALUES)))
    return ["rewards", chance.choice(("show", "check")), name]


def list_with_options(chance: random.Random, place: Path) -> list[str]:
    return [*chance.choice((["rewards", "ls"], ["suites", "ls"], ["recipes", "ls"])), chance.choice(VALUES)]


def serve_with_options(chance: random.Random, place: Path) -> list[str]:
    """Nothing here can be served, so that nothing listens."""
    option = chance.choice(
        ("--reward", "--reward-set", "--weights", "--token-file", "--limit", "--max-batch", "--port")
    )
    return ["serve", "--reward", "nothing-of-that-name", option, chance.choice(VALUES)]


KINDS: dict[str, Case] = {
    case.__name__: case
    for case in (
        show_suite, show_drawn_suite, show_recipe, train_on_prompts, train_by_recipe, train_with_settings,
        train_with_options, train_in_a_damaged_run, draw_from_a_damaged_run, draw_from_a_damaged_model,
        draw_with_options, score_pictures, score_by_metadata, score_onto_a_table, score_with_options,
        evaluate_pictures, evaluate_onto_results, compare_results, look_at_a_reward, list_with_options,
        serve_with_options,
    )
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> Path:
    """A folder of its own, nothing fetched, no network, no secrets."""
    monkeypatch.chdir(tmp_path)
    for variable in ("DGPO_DATA_DIR", "DGPO_REWARD_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse_connection)
    put(tmp_path / "bright.py", PLUGIN.encode())
    put(tmp_path / "sound.txt", PROMPTS.encode())
    (tmp_path / "model").symlink_to(model_folder)
    return tmp_path


def refuse_connection(*arguments: object) -> None:
    raise ConnectionRefusedError("no network in this test")


def attempt(kind: str, number: int, place: Path) -> None:
    words = KINDS[kind](random.Random(f"{kind} {number}"), place)
    done = CliRunner().invoke(app, words)
    shown = json.dumps([word[:200] for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), (shown, repr(done.exception)[:500])
    assert done.exit_code in ENDINGS, (shown, done.exit_code, done.stderr[-500:])
    assert "Traceback" not in done.stderr, shown
    assert done.exit_code == 0 or done.stderr.strip(), shown


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_no_input_is_a_bug(kind: str, number: int, place: Path) -> None:
    attempt(kind, number, place)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3, 40))
@pytest.mark.parametrize("kind", KINDS)
def test_no_input_is_a_bug_at_length(kind: str, number: int, place: Path) -> None:
    attempt(kind, number, place)
