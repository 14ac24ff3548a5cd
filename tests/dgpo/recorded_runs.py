"""Tiny trainings through the real program, and what they came to: a change that must change no bit is held against it.

    python -m tests.dgpo.recorded_runs FOLDER            train all of them into FOLDER and print their quantities
    python -m tests.dgpo.recorded_runs FOLDER --record   the same, and make them the record

Only the command line is used, so that everything behind it may be rebuilt. A record holds for one kind of machine: the
matrix products of other processors add in another order.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_suffix(".json")
# One way to compute on every x86-64 processor with AVX2: no thread shares a sum, no library takes wider instructions.
PINNED = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "DGPO_EMBEDDINGS_GB": "0",
}
SMALL = {
    "steps": 2,
    "groups": 2,
    "group_size": 4,
    "workers": 0,
    "training": {"rank": 4, "alpha": 8, "dtype": "fp32", "modules": []},
    "sampling": {"sampler": "dpm++", "steps": 4, "guidance": 1.0, "height": 32, "width": 64, "text_length": 0},
    "rollout": {"micro_batch": 8, "merge": "never"},
    "times": {"count": 2, "min_sigma": 0.5},
    "objective": {"kl": 0.0, "clip": None},
    "optimizer": {"learning_rate": 1.0e-3, "micro_batch": 8},
    "averages": {"evaluation_every": 1},
    "watch": {"canaries": 0},
    "evaluation": {"every": 0, "suite": None},
    "checkpoint": {"every": 0},
    "samples": {"every": 0},
}
PROMPTS = "".join(
    f'a red sign that says "{word}"\n' for word in ("anchor", "basket", "cable", "dragon", "eagle", "fog")
)
BRIGHT = """
import numpy as np
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score


class Bright(Reward):
    card = Card(
        name="bright", version=1, unit="mean grey", bounds=(0, 1), higher_is_better=True, summary="how bright",
        reads_prompt=False,
    )

    def score(self, images, prompts):
        return [Score(float(np.asarray(image, dtype=np.float64).mean()) / 255) for image in images]


class Red(Bright):
    card = Card(
        name="red", version=1, unit="mean red", bounds=(0, 1), higher_is_better=True, summary="how red",
        reads_prompt=False,
    )

    def score(self, images, prompts):
        return [Score(float(np.asarray(image, dtype=np.float64)[..., 0].mean()) / 255) for image in images]
"""
WATCHED = {"evaluation.every": 1, "evaluation.suite": "prompts.txt", "evaluation.prompts": 3, "samples.every": 1}
KEPT = {"checkpoint.every": 1, "watch.canaries": 2}
RUNS: dict[str, Mapping[str, Any]] = {
    "lora": {**WATCHED, **KEPT},
    "full": {"training.method": "full", "optimizer.learning_rate": 1e-5, "checkpoint.every": 1},
    "clip, kl and guidance": {
        "objective.kl": 0.05,
        "objective.clip": 1e-6,
        "sampling.guidance": 3.0,
        "objective.reference_guidance": 2.0,
        "steps": 3,
        "averages.old_decay": 0.9,
        "averages.old_growth": 0.9,
    },
    "old reference": {
        "objective.reference": "old",
        "objective.clip": 1e-6,
        "objective.kl": 0.01,
        "rollout.old_after": 1,
        "steps": 3,
        "averages.old_decay": 0.5,
        "averages.old_growth": 0.2,
    },
    "a step per time, groups cut": {"times.one_update": False, "optimizer.micro_batch": 3, "sampling.sampler": "euler"},
    "drawn by merged weights": {"rollout.merge": "auto", "steps": 3, "sampling.guidance": 3.0},
    "a mix": {
        "rewards": ["bright.py:Bright=0.7", "bright.py:Red=-0.3"],
        "advantage.per_reward": True,
        "advantage.std": "batch",
        "optimizer.warm_up": 3,
        "averages.evaluation_decay": 0.0,
    },
    "full, everything on": {
        "training.method": "full",
        "training.checkpointing": True,
        "objective.clip": 1e-6,
        "objective.kl": 0.05,
        "averages.old_growth": 0.3,
        "optimizer.learning_rate": 1e-5,
        **WATCHED,
    },
}
TWO_PROCESSES = ("lora", "full, everything on")
INTERRUPTED = ("lora", "old reference", "full, everything on")

Quantities = dict[str, str]


def describe_platform() -> dict[str, str]:
    """What the record holds for: convolutions are cut by the sizes of the caches, so the processor counts too."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kept = ("vendor_id", "cpu family", "model", "cache size")
    return {
        "machine": platform.machine(),
        **{name: facts.get(name, "unknown") for name in kept},
        "torch": torch.__version__.partition("+")[0],
    }


def train_all(folder: Path, *, alone: bool, together: bool) -> dict[str, Quantities]:
    """Every run of the table and those that were stopped and went on, and those of two processes; by name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text(PROMPTS)
    (folder / "bright.py").write_text(BRIGHT)
    os.chdir(folder)
    _export_model(folder / "model")
    found = {}
    for name, changes in RUNS.items() if alone else ():
        found[name] = _read(_train(name, changes))
    for name in INTERRUPTED if alone else ():
        steps = RUNS[name].get("steps", SMALL["steps"])
        where = f"{name}, interrupted"
        _train(where, {**RUNS[name], "steps": 1})
        found[where] = _read(_train(where, {**RUNS[name], "steps": steps}))
    for name in TWO_PROCESSES if together else ():
        found[f"{name}, two processes"] = _read(_train(f"{name}, two processes", RUNS[name], "--num-processes", "2"))
    return found


def differences(a: Quantities, b: Quantities) -> list[str]:
    """What is not the same, the earliest step first; of equal runs nothing."""
    keys = dict.fromkeys([*a, *b])
    return [f"{key}: {a.get(key, 'absent')} and {b.get(key, 'absent')}" for key in keys if a.get(key) != b.get(key)]


def read_record() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


def _export_model(folder: Path) -> None:
    """The embedded model's architecture with random weights, so that the record outlives the embedded weights."""
    import torch

    from dgpo.models.tiny import network
    from dgpo.models.tiny.pretrain import Denoiser, export

    torch.manual_seed(0)
    denoiser, autoencoder = Denoiser(), network.build_autoencoder()
    autoencoder.register_to_config(shift_factor=0.1, scaling_factor=1.2)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    export(folder, autoencoder, denoiser)


def _train(name: str, changes: Mapping[str, Any], *more: str) -> Path:
    """`dgpo train` in this process, or, where it starts others, in those."""
    import yaml

    settings: dict[str, Any] = json.loads(json.dumps(SMALL))
    for dotted, value in {
        "model": "./model",
        "prompts": "prompts.txt",
        "rewards": ["bright.py:Bright"],
        **changes,
    }.items():
        place = settings
        *sections, last = dotted.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    Path("recipe.yaml").write_text(yaml.safe_dump(settings))
    run = Path("runs") / name.replace(" ", "-").replace(",", "")
    words = ["train", "--recipe", "recipe.yaml", "--output", str(run), "--trust-run", *more]
    if more:
        words = [sys.executable, "-m", "cli.main", *words]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return run
    from typer.testing import CliRunner

    from cli.commands import app

    done = CliRunner().invoke(app, words)
    if done.exit_code:
        raise SystemExit(f"{name}: exit code {done.exit_code}\n{done.output}\n{done.exception!r}")
    return run


def _read(run: Path) -> Quantities:
    """The quantities of a run as `compare_runs` reads them: metrics as written, everything else as the start of a hash.

    The tensors of one file are one quantity: the record stays small, and still says where to look.
    """
    from dgpo.compare_runs import read_quantities

    tensors: dict[str, list[str]] = {}
    found: Quantities = {}
    for (step, name), value in sorted(read_quantities(run).items()):
        file, of, tensor = name.partition(": ")
        if of and file.endswith(".safetensors"):
            tensors.setdefault(
                f"step {step}: {file}: {tensor.split('/')[0] if '/' in tensor else 'weights'}", []
            ).append(f"{tensor} {value}")
        else:
            found[f"step {step}: {name}"] = value if len(value) <= 24 else _hash([value])
    return {**found, **{key: _hash(sorted(values)) for key, values in tensors.items()}}


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.dgpo.recorded_runs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", action="store_true", help="make what these runs came to the record")
    parser.add_argument("--only", choices=("alone", "together"), help="the runs of one process, or those of two")
    asked = parser.parse_args(arguments)
    if asked.record and asked.only:
        parser.error("a record is of all runs")
    if any(os.environ.get(name) != value for name, value in PINNED.items()):  # libraries read these as they load
        words = [sys.executable, "-m", "tests.dgpo.recorded_runs", *arguments]
        raise SystemExit(subprocess.run(words, env={**os.environ, **PINNED, "PYTHONPATH": str(ROOT)}).returncode)
    with contextlib.redirect_stdout(io.StringIO()):
        runs = train_all(asked.folder.absolute(), alone=asked.only != "together", together=asked.only != "alone")
        found = {"platform": describe_platform(), "runs": runs}
    text = json.dumps(found, indent=0, ensure_ascii=False) + "\n"
    if asked.record:
        RECORD.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
