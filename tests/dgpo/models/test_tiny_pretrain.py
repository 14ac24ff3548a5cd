import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from dgpo.load import load_model
from dgpo.models.sd3 import SD3
from dgpo.models.tiny import pretrain
from tests.dgpo.training import PROMPTS

PLAN = {"autoencoder-steps": 3, "autoencoder-batch": 2, "signs": 12, "batch": 3, "warm-up": 2}
PLAN |= {"clean-steps": 2, "uneven-signs": 12, "uneven-steps": 2}
ARGUMENTS = ["--device=cpu", "--threads=1", *(f"--{name}={value}" for name, value in PLAN.items())]


def weights(folder: Path) -> dict[str, str]:
    files = sorted((folder / "pipeline").rglob("*.safetensors"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def pretrain_until(saves: int | None, folder: Path) -> None:
    """The command in a process of its own that saves after every step, and is killed with -9 after so many saves."""
    pretrain.SAVE_EVERY = 1
    save, done = pretrain.save_state, []

    def save_and_die(path: Path, clock: pretrain.Clock, **state) -> None:
        save(path, clock, **state)
        done.append(path)
        if len(done) == saves:
            os.kill(os.getpid(), signal.SIGKILL)

    pretrain.save_state = save_and_die
    sys.argv = ["pretrain", "--output", str(folder), *ARGUMENTS]
    pretrain.main()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the command makes, in one go."""
    folder = tmp_path_factory.mktemp("tiny")
    command = [sys.executable, "-m", "dgpo.models.tiny.pretrain", "--output", str(folder), *ARGUMENTS]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "denoiser 4/4 loss" in done.stdout
    return folder


def test_makes_a_model_that_draws(made):
    record = json.loads((made / "pipeline" / "pretraining.json").read_text())
    assert (record["plan"]["clean_steps"], record["plan"]["signs"]) == (2, 12)
    assert record["minutes"] > 0
    model = load_model(str(made / "pipeline"), dtype="fp32", device=torch.device("cpu"), text_length=0)
    assert isinstance(model, SD3)
    assert model.encode([PROMPTS[0].text]).states_NTD.shape == (1, 16, 128)
    (image,) = model.decode(torch.zeros(1, *model.latent_shape(32, 64)))
    assert isinstance(image, Image.Image)
    assert image.size == (64, 32)
    assert len(weights(made)) == 4


def test_killed_and_started_again_makes_the_same_weights(made, processes, tmp_path):
    """Killed in the autoencoder's second step, and in the denoiser's second."""
    for saves, code in ((2, -signal.SIGKILL), (3, -signal.SIGKILL), (None, 0)):
        process = processes.Process(target=pretrain_until, args=(saves, tmp_path))
        process.start()
        process.join(timeout=300)
        assert process.exitcode == code
    assert weights(tmp_path) == weights(made)
