"""A model small enough to load in a second, a run made from it, and the real program in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from cli.commands import app

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"height": 32, "width": 64, "steps": 2, "guidance": 1.0, "sampler": "euler", "text_length": 0}

HIDE = """
class Hide:
    def __init__(self, finders, names):
        self.finders, self.names = finders, names
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)
    def find_distributions(self, *context):
        for finder in self.finders:
            yield from getattr(finder, "find_distributions", lambda *context: ())(*context)
sys.meta_path[:] = [Hide(list(sys.meta_path), {names!r})]
"""

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's architecture with random weights, as a diffusers folder.

    Weights that start from zero are made random too, or else nothing would depend on any other weight.
    """
    from dgpo.models.tiny import network
    from dgpo.models.tiny.pretrain import Denoiser, export

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "noise"
    denoiser = Denoiser()
    with torch.no_grad():
        for parameter in denoiser.transformer.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    export(folder, network.build_autoencoder(), denoiser)
    return folder


@pytest.fixture
def run_folder(model_folder: Path, tmp_path: Path) -> Path:
    """A run folder with checkpoints of the steps 1 and 2, whose adapters are not zero."""
    from dgpo.checkpoint import Progress, save_checkpoint, take_snapshot
    from dgpo.config import load_config
    from dgpo.contents import model_contents
    from dgpo.load import load_policy
    from dgpo.run import Run

    settings = {"model": str(model_folder), "training.rank": 2, "training.alpha": 4, "rewards": ["imagestats.edges=2"]}
    config = load_config("tiny", {**settings, **{f"sampling.{name}": value for name, value in SIZES.items()}})
    run = Run(tmp_path / "trained")
    run.folder.mkdir()
    facts = {"contents": {"model": model_contents(config.model)}, "reward_provenance": {"imagestats.edges@1": {}}}
    run.begin(config, facts, fresh=False)
    policy = load_policy(config.model, config, torch.device("cpu"), trainable=True)
    optimizer = torch.optim.AdamW(policy.parameters)
    generator = torch.Generator().manual_seed(1)
    for step in (1, 2):
        with torch.no_grad():
            for parameter in policy.parameters:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
        taken = take_snapshot(policy, optimizer, Progress(step=step, updates=step))
        save_checkpoint(run.checkpoints, policy, taken)
    return run.folder


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text('a red sign that says "cat"\na blue sign that says "dog"\na green sign that says "sun"\n')
    return path


@pytest.fixture
def without() -> Callable[..., str]:
    """Python that makes installed packages absent, for `program`'s `before`."""
    return lambda *names: HIDE.format(names=names)


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Run `dgpo ARGUMENTS` in this process, which saves it seconds of imports, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str) -> SimpleNamespace:
        done = CliRunner(env=environment).invoke(app, list(arguments))
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    return run


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `dgpo ARGUMENTS` in a folder of its own; `before` is Python that is executed in that process first."""

    def run(*arguments: str, before: str = "", folder: Path = tmp_path, **environment: str):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{before}\nfrom cli.main import main; main()"
        words: Sequence[str] = [sys.executable, "-P", "-c", code, *arguments]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
        return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=900, env=variables)

    return run
