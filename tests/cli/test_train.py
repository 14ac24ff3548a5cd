"""`dgpo train` as a user meets it: real processes, the embedded model, the real OCR engine; small and short."""

import hashlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from cli.commands import app

SMALL = (
    "groups=2",
    "group_size=2",
    "sampling.steps=2",
    "dgpo.times=1",
    "dgpo.min_sigma=0",
    "evaluation.every=0",
    "samples.every=0",
    "checkpoint.every=1",
    "workers=0",
)


def command(folder: Path, *more: str, steps: int = 3, sets: tuple[str, ...] = SMALL) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "cli.main",
        "train",
        "--reward",
        "ocr",
        "--output",
        str(folder),
        "--steps",
        str(steps),
    ]
    for text in sets:
        words += ["--set", text]
    return [*words, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(*arguments: str, folder: Path, **settings) -> SimpleNamespace:
    """The command in this process, which saves it seconds of imports; what dies or forks gets one of its own."""
    done = CliRunner(env=environment()).invoke(app, command(folder, *arguments, **settings)[3:])
    return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)


def trained(folder: Path, step: int) -> dict:
    return load_file(folder / "checkpoints" / f"step-{step:06d}" / "trainer.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four iterations that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = run(folder=folder, steps=4)
    assert result.returncode == 0, result.stderr
    assert "training the embedded model `tiny`" in result.stderr
    assert result.stdout.strip() == str(folder)
    return folder


def test_a_run_leaves_what_the_architecture_promises(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "reward" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert {"reward", "spread", "dead_groups", "failed", "loss", "kl", "gradient_norm", "seconds", "passes"} <= set(
        steps[0]
    )
    assert steps[0]["passes"]["rollout"] == 2
    record = json.loads((whole / "run.json").read_text())
    assert record["reward_provenance"]["ocr@1"]
    assert record["packages"]["torch"]
    assert yaml.safe_load((whole / "config.yaml").read_text())["training"]["dtype"] == record["precision"]["dtype"]
    assert record["precision"]["dtype"] in ("fp32", "bf16")
    assert record["threads"] == 1, "as OMP_NUM_THREADS says, however many cores there are"
    for name in ("config.yaml", "curve.png", "samples/step-000004.png"):
        assert (whole / name).stat().st_size > 0
    assert (whole / "checkpoints/step-000004/pytorch_lora_weights.safetensors").exists()


def test_killed_run_continues_and_ends_with_the_same_weights(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(command(folder, steps=4), stderr=subprocess.DEVNULL, env=environment())
    wait_for(folder / "checkpoints" / "step-000002" / "manifest.json", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = run(folder=folder, steps=4)
    assert result.returncode == 0, result.stderr
    assert "continuing from" in result.stderr
    assert same(trained(folder, 4), trained(whole, 4))
    steps = [
        json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines() if '"reward"' in line
    ]
    assert steps == [1, 2, 3, 4]


def test_ctrl_c_saves_and_exits_130_and_the_same_command_goes_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(command(folder, steps=4), stderr=subprocess.PIPE, text=True, env=environment())
    wait_for(folder / "checkpoints" / "step-000001" / "manifest.json", process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=200)
    assert process.returncode == 130, told
    assert "stopped and saved at step" in told
    assert run(folder=folder, steps=4).returncode == 0
    assert same(trained(folder, 4), trained(whole, 4))


def test_corrupt_checkpoint_is_passed_over_and_said(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(folder=folder, steps=3).returncode == 0
    path = folder / "checkpoints" / "step-000003" / "trainer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    result = run(folder=folder, steps=4)
    assert result.returncode == 0, result.stderr
    assert "step-000003 cannot be used (trainer.safetensors is damaged)" in result.stderr
    assert same(trained(folder, 4), trained(whole, 4))


def test_two_processes_through_the_command_line(whole: Path, tmp_path: Path, monkeypatch) -> None:
    """In a container that says of every program that it is the only one of its job."""
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "gone", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "run"
    words = command(folder, "--num-processes", "2", steps=2)
    result = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment())
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(folder)
    assert json.loads((folder / "run.json").read_text())["processes"] == 2
    one, two = trained(whole, 2), trained(folder, 2)
    assert one.keys() == two.keys()


def test_a_closed_terminal_saves(tmp_path: Path) -> None:
    """The kernel sends SIGHUP, and every write to the terminal fails from then on."""
    folder = tmp_path / "run"
    ours, theirs = pty.openpty()
    words = command(folder, steps=1000, sets=(*SMALL, "checkpoint.every=0", "watch.canaries=0"))
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", take, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
        start_new_session=True,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and '"reward"' in metrics.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
        with suppress(BlockingIOError):
            os.read(ours, 65536)
    os.close(ours)
    assert process.wait(timeout=200) == 130
    (saved,) = (folder / "checkpoints").glob("step-*/manifest.json")
    assert saved.is_file()


@pytest.mark.slow
def test_two_machines_without_a_common_disk_are_told_so(tmp_path: Path) -> None:
    """Each in a folder of its own, as two machines are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hurry = "import rewards.files; rewards.files.PATIENCE_S = 1.0; from cli.main import main; main()"
    words = [sys.executable, "-P", "-c", hurry, *command(Path("run"))[3:]]
    both = []
    for rank in range(2):
        facts = {"RANK": rank, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "WORLD_SIZE": 2, "MASTER_PORT": port}
        variables = {**environment(), **{name: str(value) for name, value in facts.items()}, "MASTER_ADDR": "127.0.0.1"}
        variables["PYTHONPATH"] = str(Path(__file__).parents[2])
        (tmp_path / f"machine-{rank}").mkdir()
        place = tmp_path / f"machine-{rank}"
        both.append(subprocess.Popen(words, cwd=place, env=variables, stderr=subprocess.PIPE, text=True))
    main, other = (process.communicate(timeout=300)[1] for process in both)
    assert both[1].returncode == 3, other
    assert f"{socket.gethostname()} does not see in {tmp_path}/machine-1/run what the main process has written" in other
    assert "give --output one on a disk that they share" in other
    assert both[0].returncode == 75, main
    assert "Another process of this training cannot be reached any more" in main
    assert "Traceback" not in main + other


def test_another_runs_folder_is_refused_and_fresh_starts_over(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(folder=folder, steps=1).returncode == 0
    refused = run("--seed", "5", folder=folder, steps=1)
    assert refused.returncode == 2
    assert "seed is 0 there and 5 here" in refused.stderr
    assert run("--seed", "5", "--fresh", folder=folder, steps=1).returncode == 0
    assert not same(trained(folder, 1), trained(whole, 1))


def test_a_run_goes_on_in_the_precision_it_began_with(whole: Path, tmp_path: Path) -> None:
    """Wherever it is: this one says that it began in bf16, on another machine perhaps."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("dtype: fp32", "dtype: bf16"))
    result = run(folder=folder, steps=5)
    assert result.returncode == 0, result.stderr
    assert "precision: bf16 (as this run began" in result.stderr
    assert yaml.safe_load(path.read_text())["training"]["dtype"] == "bf16"


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run("--dry-run", folder=folder)
    assert result.returncode == 0, result.stderr
    assert "4F+1B per image" in result.stderr
    assert not folder.exists()


BRIGHT = """
import numpy
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Bright(Reward):
    card = Card(name="bright", version=1, unit="grey level", bounds=(0, 255), higher_is_better=True,
                train_scale=1 / 255, summary="mean of the pixels", reads_prompt=False)

    def score(self, images, prompts):
        return [Score(float(numpy.asarray(image).mean())) for image in images]
"""


def test_mix_with_a_reward_of_ones_own_is_visible_in_metrics_and_record(tmp_path: Path) -> None:
    (tmp_path / "bright.py").write_text(BRIGHT)
    sets = (*SMALL, "advantage.per_reward=true")
    words = command(tmp_path / "run", "--reward", "bright.py:Bright=0.2", steps=2, sets=sets)
    words[words.index("ocr")] = "ocr=0.8"
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    result = subprocess.run(words, env={**environment(), "PYTHONPATH": path}, **settings)
    assert result.returncode == 0, result.stderr
    assert "ocr@1 0." in result.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        ocr, bright = (line["rewards"][key] for key in ("ocr@1", "bright@1"))
        assert 1 < bright < 255
        assert line["reward"] == pytest.approx(0.8 * ocr + 0.2 * bright / 255)
        assert line["spreads"]["bright@1"] > 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    sha = hashlib.sha256(BRIGHT.encode()).hexdigest()
    assert record["reward_provenance"]["bright@1"]["source"] == f"bright.py:Bright sha256:{sha}"
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["rewards"] == ["ocr=0.8", f"{tmp_path}/bright.py:Bright=0.2"]


FRAIL = """
import pathlib
import numpy
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Frail(Reward):
    card = Card(name="frail", version=1, unit="grey level", bounds=(0, 9), higher_is_better=True, summary="for tests")
    asked = 0

    def score(self, images, prompts):
        self.asked += len(images)
        if pathlib.Path("mixed-up").exists():
            prompts = prompts[::-1]
        if pathlib.Path("frail").exists() and self.asked > LASTS:
            raise ConnectionError("connection refused")
        return [Score(numpy.asarray(image).mean() / 255 + len(p.text) / 99) for image, p in zip(images, prompts)]
"""


def test_a_reward_that_fails_is_exit_3_and_once_mended_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasts = 12 + 4 + 4  # the canaries in three ways, the first iteration, and the canaries before its checkpoint
    (tmp_path / "frail.py").write_text(FRAIL.replace("LASTS", str(lasts)))
    words = command(tmp_path / "run", steps=2)
    words[words.index("ocr")] = "frail.py:Frail"
    monkeypatch.chdir(tmp_path)

    def train() -> SimpleNamespace:
        done = CliRunner(env=environment()).invoke(app, words[3:])
        return SimpleNamespace(returncode=done.exit_code, stderr=done.stderr)

    (tmp_path / "mixed-up").touch()
    refused = train()
    assert refused.returncode == 3, refused.stderr
    assert "frail@1 scores canary 1" in refused.stderr
    assert "it mixes up images or prompts" in refused.stderr
    (tmp_path / "mixed-up").rename(tmp_path / "frail")
    stopped = train()
    assert stopped.returncode == 3, stopped.stderr
    assert "4 of 4 images could not be scored in iteration 2, and max_failed is 0" in stopped.stderr
    assert "frail@1: ConnectionError: connection refused" in stopped.stderr
    (tmp_path / "frail").unlink()
    finished = train()
    assert finished.returncode == 0, finished.stderr
    assert "continuing from" in finished.stderr
    assert (tmp_path / "run" / "checkpoints" / "step-000002").is_dir()
    kept = json.loads((tmp_path / "run" / "canaries" / "canaries.json").read_text())
    assert kept["reward_provenance"]["frail@1"]["source"].startswith("frail.py:Frail sha256:")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--recipe", "tinny"), 2, 'There is no recipe "tinny" (a file\'s name ends in .yaml). Did you mean "tiny"?'),
        (("--model", "tinny"), 2, 'There is no model "tinny"'),
        (("--set", "group_siz=4"), 2, 'Did you mean "group_size"?'),
        (("--set", "group_size=1"), 2, "a group teaches by comparing its images"),
        (("--set", "optimizer.learning_rate=-1"), 2, "greater than 0"),
        (("--prompts", "nothing.txt"), 2, "nothing.txt"),
        (("--num-processes", "129"), 2, "129 processes for 128 images per iteration"),
        (("--num-processes", "129", "--dry-run"), 2, "Start at most 128"),
        (("--reward", "imagestats.edges"), 2, "describes images and does not say which are better"),
    ],
)
def test_wrong_use_is_a_sentence_and_exit_2(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    words = ["train", "--output", str(tmp_path / "run"), *arguments]
    if "--reward" not in arguments:
        words += ["--reward", "ocr"]
    if arguments[0] == "--model":
        words += ["--recipe", "tiny"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, result.output
    assert said in result.stderr


def test_prompts_without_quoted_text_are_named_before_anything_is_drawn(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('a blue sign that says "harbor"\na sign without words\n')
    result = run("--prompts", str(prompts), folder=tmp_path / "run")
    assert result.returncode == 2
    assert "a sign without words" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    result = run(folder=tmp_path, steps=1)
    assert result.returncode == 2
    assert "holds no run" in result.stderr
    assert run("--fresh", folder=tmp_path, steps=1).returncode == 2
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        (("--stop-when", "orc<-0.1"), 'Did you mean "ocr"?'),
        (("--stop-when", "ocr"), "is no guard"),
        (("--stop-when", "diversity<-0.1"), "evaluation.seeds=2"),
        (("--stop-when", "ocr<-0.1", "--set", "evaluation.every=0"), "this run has none"),
        (("--set", "evaluation.rewards=[orc]"), 'Did you mean "ocr"?'),
    ],
)
def test_guards_that_can_never_trip_are_refused_before_anything_is_loaded(tmp_path, more, hint):
    done = CliRunner().invoke(app, ["train", "--reward", "ocr", "--dry-run", "--output", str(tmp_path / "run"), *more])
    assert done.exit_code == 2, done.stderr
    assert hint in done.stderr


@pytest.mark.slow
def test_guard_ends_a_run_with_4_and_the_same_command_without_it_goes_on(tmp_path):
    """A guard on a figure of the pictures, and one on a reward that only evaluations measure."""
    sets = [text for text in SMALL if not text.startswith(("evaluation", "checkpoint"))]
    sets += ["evaluation.every=1", "evaluation.prompts=2", "evaluation.rewards=[imagestats]"]
    sets += ["group_size=4", "optimizer.learning_rate=1e-1", "optimizer.warm_up=0", "averages.evaluation_decay=0"]
    guards = ("--stop-when", "edges<-0.0001", "--stop-when", "imagestats.edges>0.0001")
    stopped = run(*guards, folder=tmp_path / "run", steps=4, sets=tuple(sets))
    assert stopped.returncode == 4, stopped.stderr
    assert 'The guard "' in stopped.stderr
    assert "It is saved at step" in stopped.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    looks = [line for line in lines if "evaluation" in line]
    assert set(looks[0]["evaluation"]) == {"ocr@1", "imagestats.dark@1", "imagestats.edges@1", "imagestats.colours@1"}
    assert looks[0]["pictures"]["edges"] == pytest.approx(looks[0]["evaluation"]["imagestats.edges@1"]["mean"])
    assert looks[0]["pictures"]["diversity"] is None
    assert (tmp_path / "run/prompts.sha256").read_text()
    on = run(folder=tmp_path / "run", steps=4, sets=tuple(sets))
    assert on.returncode == 0, on.stderr


HANGS = """
import time
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Hangs(Reward):
    card = Card(name="hangs", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="for ever")

    def score(self, images, prompts):
        print("hanging", flush=True)
        time.sleep(1e6)
"""


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_second_ctrl_c_ends_a_training_whose_reward_hangs(model_folder, tmp_path, prompt_file, processes):
    """And the processes that it has started."""
    (tmp_path / "hangs.py").write_text(HANGS)
    words = [sys.executable, "-m", "cli.main", "train", "--reward", f"{tmp_path}/hangs.py:Hangs", "--recipe", "tiny"]
    words += ["--model", str(model_folder), "--prompts", str(prompt_file), "--output", str(tmp_path / "run")]
    for name, value in {"groups": 1, "group_size": 2, "sampling.height": 32, "sampling.width": 64, "sampling.steps": 2,
                        "dgpo.times": 1,
                        "training.dtype": "fp32", "evaluation.every": 0, "watch.canaries": 0}.items():  # fmt: skip
        words += ["--set", f"{name}={value}"]
    words += ["--num-processes", str(processes)]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stderr is not None
        told = []
        while not told or told[-1] != "hanging\n":
            told.append(process.stderr.readline())
            assert told[-1], told
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        while "finishing this iteration" not in told[-1]:
            told.append(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert psutil.wait_procs(children, timeout=10)[1] == []
