"""Every algorithm on the embedded model through the real command line: any number of processes, any cut, any death.

The same guarantees are held every day, for more variants and inside one program, by `tests/dgpo/algorithms`.
"""

import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from dgpo.compare_runs import compare_runs
from tests.cli.test_train import environment
from tests.cli.toys import metrics

pytestmark = pytest.mark.slow
# An epsilon that keeps a gradient of rounding from becoming a whole step.
SETTINGS = {
    "groups": 2, "group_size": 6, "workers": 0, "sampling.steps": 5, "checkpoint.every": 1, "evaluation.every": 0,
    "samples.every": 0, "watch.canaries": 0, "training.dtype": "fp32", "optimizer.learning_rate": 0.01,
    "optimizer.epsilon": 1e-3, "optimizer.warm_up": 0,
}  # fmt: skip
OF_ITS_OWN = {
    "dgpo": {"dgpo.times": 2, "dgpo.kl": 0.01},
    "flow-grpo": {"rollout.noise": "cps"},
    "diffusion-dpo": {"diffusion_dpo.times": 2},
    "nft": {"nft.times": 3, "nft.updates": 2, "nft.old_growth": 0.2},
    "awm": {"awm.times": 2, "rollout.noise": "sa", "awm.fast": 0.5, "awm.fast_growth": 0.2},
}


@pytest.fixture(params=OF_ITS_OWN)
def words(request):
    """The command without its folder."""
    words = [sys.executable, "-m", "cli.main", "train", "--algorithm", request.param, "--reward", "ocr", "--steps", "3"]
    for name, value in {**SETTINGS, **OF_ITS_OWN[request.param]}.items():
        words += ["--set", f"{name}={value}"]
    return words


def run(words, folder, *more):
    done = subprocess.run(
        [*words, "--output", str(folder), *more], capture_output=True, text=True, timeout=600, env=environment()
    )
    assert done.returncode == 0, done.stderr


def learned(folder):
    """What the adapters' second factors have become, which start from zero."""
    weights = load_file(folder / "checkpoints/step-000003/trainer.safetensors")
    chosen = [value.flatten().double() for name, value in sorted(weights.items()) if "lora_B" in name]
    return torch.cat(chosen)


def agree(one, other):
    for alone, together in zip(metrics(one), metrics(other), strict=True):
        assert together["reward"] == pytest.approx(alone["reward"], rel=1e-5)
        assert together["times"] == alone["times"]
        assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=2e-3)
    there, here = learned(one), learned(other)
    assert there.norm() > 0
    assert (here - there).norm() < 5e-3 * there.norm()


def test_processes_micro_batches_and_a_kill_change_nothing(words, tmp_path):
    """Six images a group: three processes have four images each, so that both groups are cut."""
    run(words, tmp_path / "one", "--set", "optimizer.micro_batch=12")
    for count in (2, 3):
        run(words, tmp_path / f"{count}", "--num-processes", str(count))
        agree(tmp_path / "one", tmp_path / f"{count}")
    run(words, tmp_path / "parts", "--set", "optimizer.micro_batch=6")
    agree(tmp_path / "one", tmp_path / "parts")
    folder = tmp_path / "killed"
    command = [*words, "--output", str(folder), "--set", "optimizer.micro_batch=12"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment()) as process:
        while not (folder / "checkpoints/step-000001/manifest.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    run(words, folder, "--set", "optimizer.micro_batch=12")
    assert compare_runs(tmp_path / "one", folder) == []
    assert [line["step"] for line in metrics(folder)] == [1, 2, 3]
