"""The job array of docs/evaluation.md as it stands, its jobs one after the other on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.stored_images import draw, write_everywhere

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path):
    """Runs a command in which `dgpo` is this program."""
    (tmp_path / "dgpo").write_text(f'#!/bin/bash\nexec {sys.executable} -m cli.main "$@"\n')
    (tmp_path / "dgpo").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def command(words, **more):
        return subprocess.run(
            words, shell=isinstance(words, str), cwd=tmp_path, env={**variables, **more}, capture_output=True, text=True
        )

    return command


def without_seconds(path):
    return re.sub(rb"[^,]*\n", b"SECONDS\n", path.read_bytes())


def test_the_array_is_merged_to_what_one_command_writes(command, tmp_path):
    page = (ROOT / "docs/evaluation.md").read_text()
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    (tmp_path / "score.sbatch").write_text(script)
    stored = write_everywhere(tmp_path / "stored", draw(12), ["a cat"] * 12)
    words = ["--reward", "imagestats", "--images", str(stored / "tar" / "pictures")]
    (tmp_path / "out").mkdir()

    def job(number):
        names = {"SLURM_ARRAY_TASK_ID": str(number), "PARTS": "3", "OUT": "out"}
        done = command(["bash", "score.sbatch", *words], **names)
        assert done.returncode == 0, done.stderr

    job(1)
    job(3)
    merge = "dgpo merge out/scores-*-of-3.csv --output scores.csv"
    done = command(merge)
    assert done.returncode == 2
    assert "2 of 3 is missing" in done.stderr
    job(2)
    done = command(merge)
    assert done.returncode == 0, done.stderr
    assert command(["dgpo", "score", *words, "--output", "whole.csv"]).returncode == 0
    assert without_seconds(tmp_path / "scores.csv") == without_seconds(tmp_path / "whole.csv")
