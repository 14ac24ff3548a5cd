"""The SLURM script of docs/cluster.md as it stands: two launchers on one machine in the place of two machines."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
# As many tasks at once as there are nodes; the job fails if one of them does, as `srun` has it.
SRUN = """#!/bin/bash
for node in $(seq "$SLURM_NNODES"); do "$@" & tasks="$tasks $!"; done
trap 'kill -TERM $tasks' TERM
for task in $tasks; do wait "$task" || code=$?; done
exit ${code:-0}
"""
SCONTROL = "#!/bin/bash\necho 127.0.0.1\necho 127.0.0.1\n"
LIT = """
import os, signal
import numpy
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class Lit(Reward):
    card = Card(name="lit", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="how bright")
    batches = 0

    def score(self, images, prompts):
        Lit.batches += 1
        if os.environ["RANK"] == os.environ.get("KILL_RANK") and Lit.batches == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Score(float(numpy.asarray(image).mean()) / 255) for image in images]
"""
SETTINGS = {
    "groups": 2, "group_size": 2, "sampling.steps": 4, "sampling.guidance": 1, "dgpo.times": 1, "dgpo.min_sigma": 0,
    "training.dtype": "fp32", "workers": 0, "evaluation.every": 0, "samples.every": 0, "checkpoint.every": 1,
    "watch.canaries": 0,
}  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path):
    """Starts the page's script as a job with a run folder, so many steps and a reward's file."""
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL)
    dgpo = f'#!/bin/bash\nexec {sys.executable} -m cli.main "$@"\n'
    (tmp_path / "train.sbatch").write_text(script)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "dgpo": dgpo}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "lit.py").write_text(LIT)
    started = []

    def start(run, steps, *more, number=4711, **variables):
        words = [
            "--model",
            "tiny",
            "--recipe",
            "tiny",
            "--reward",
            f"{tmp_path}/lit.py:Lit",
            "--steps",
            str(steps),
            *more,
        ]
        words += [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
        path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        slurm = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "here[1-2]", "SLURM_JOB_ID": str(number)}
        process = subprocess.Popen(
            ["bash", str(tmp_path / "train.sbatch"), *words],
            env={
                **os.environ,
                **slurm,
                "PATH": path,
                "PYTHONPATH": str(ROOT),
                "PROCESSES": "1",
                "RUN": str(run),
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def end(process):
    told, _ = process.communicate(timeout=300)
    return process.returncode, told


def read_weights(run, step):
    return load_file(run / f"checkpoints/step-{step:06d}/trainer.safetensors")


def test_the_script_trains_on_two_machines_and_goes_on_after_a_kill(job, tmp_path):
    code, told = end(job(tmp_path / "whole", 4))
    assert code == 0, told
    code, told = end(job(tmp_path / "cut", 4, KILL_RANK="1", number=4712))
    assert code != 0
    assert "SIGKILL" in told  # torchrun's summary of the machine that failed
    code, told = end(job(tmp_path / "cut", 4, number=4713))
    assert code == 0, told
    assert told.count("continuing from") == 1
    whole, cut = (read_weights(tmp_path / name, 4) for name in ("whole", "cut"))
    assert all(whole[name].equal(cut[name]) for name in whole)


def test_sigterm_finishes_the_iteration_and_saves_it(job, tmp_path):
    process = job(tmp_path / "run", 100_000, TORCH_ELASTIC_SHUTDOWN_TIMEOUT="120")
    while not list((tmp_path / "run").glob("checkpoints/step-0*1")):
        time.sleep(0.2)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    _, told = end(process)
    assert "stopped and saved at step" in told, told
