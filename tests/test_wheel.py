"""The built wheel alone, away from the checkout: what is in it, and that it trains."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dgpo", "rewards", "benchmarks", "cli")


def run(*words: str | Path, folder: Path) -> str:
    """A command in `folder` whose environment knows nothing of this checkout."""
    variables = {"PATH": os.defpath, "HOME": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=variables, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since the builder would take along what an older build left in the checkout."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made)
    run(sys.executable, "-m", "pip", *build, source, folder=made)
    (path,) = made.glob("dgpo-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with this wheel, and of this environment the other packages alone.

    A folder that a .pth file names is searched after the environment's own, and its own .pth files, an editable
    install's among them, are not read.
    """
    environment = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=environment)
    python = environment / "bin" / "python"
    install = ("--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", *install, folder=environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(sorted({sysconfig.get_path(n) for n in ("purelib", "platlib")})))
    return environment / "bin"


def test_every_file_of_the_packages_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.getinfo(name).file_size for name in archive.namelist() if ".dist-info/" not in name}
    ours = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    expected = [path for path in ours if path.is_file() and "__pycache__" not in path.parts]
    assert packed == {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in expected}


def test_it_trains_and_compares_where_no_checkout_is(installed, tmp_path):
    """The demo's commands, one iteration of a few images: the embedded model, recipes, words and the report's page."""
    code = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({', '.join(PACKAGES)})), sep='\\n')"
    for path in run(installed / "python", "-c", code, folder=tmp_path).split():
        assert Path(path).is_relative_to(installed.parent), path

    def dgpo(*words: str) -> str:
        return run(installed / "dgpo", *words, folder=tmp_path)

    sizes = ("groups=2", "group_size=4", "evaluation.prompts=2")
    small = [word for size in sizes for word in ("--set", size)]
    dgpo("train", "--reward", "ocr", "--steps", "1", *small, "--output", "run")
    assert json.loads((tmp_path / "run/run.json").read_text())
    assert (tmp_path / "run/checkpoints/step-000001/trainer.safetensors").is_file()
    (tmp_path / "prompts.txt").write_text('a red sign that says "cat"\na blue sign that says "dog"\n')
    for name, model in (("before", "tiny"), ("after", "run")):
        dgpo("eval", "--suite", "prompts.txt", "--model", model, "--reward", "imagestats", "--output", name)
    dgpo("compare", "before", "after", "--html", "report.html")
    assert "imagestats" in (tmp_path / "report.html").read_text()
