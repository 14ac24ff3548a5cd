"""What the tests of the seams share: a reward in a file, a recipe of seconds, and the program in this process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from cli.commands import app

BRIGHT = """
import numpy as np
from rewards import Card, Reward, Score


class Bright(Reward):
    card = Card(
        name="bright", version=1, unit="mean grey", bounds=(0, 1), higher_is_better=True, summary="how bright",
        reads_prompt=False,
    )

    def score(self, images, prompts):
        return [Score(float(np.asarray(image, dtype=np.float64).mean()) / 255) for image in images]
"""
SETTINGS = {
    "prompts": "prompts.txt",
    "steps": 2,
    "groups": 2,
    "group_size": 4,
    "workers": 0,
    "sampling": {"steps": 4, "guidance": 1.0, "height": 32, "width": 64, "text_length": 0},
    "training": {"rank": 4, "alpha": 8, "dtype": "fp32"},
    "watch": {"canaries": 0},
    "checkpoint": {"every": 1},
    "samples": {"every": 0},
}


def prepare(folder: Path, model: str | Path, changes: Mapping[str, Any]) -> None:
    """A folder with a recipe for a model, prompts, and the reward `bright.py:Bright`."""
    (folder / "bright.py").write_text(BRIGHT)
    (folder / "prompts.txt").write_text("a cat\na dog\na red sign\n")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**SETTINGS, "model": str(model), **changes}))


def dgpo(*words: str, code: int = 0) -> str:
    """What the program printed, its answer and what it said; it ended with this exit code."""
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return done.output


def train(output: str, *words: str, code: int = 0) -> str:
    return dgpo(
        "train", "--recipe", "recipe.yaml", "--reward", "bright.py:Bright", "--output", output, *words, code=code
    )


def metrics(run: Path) -> Sequence[dict[str, Any]]:
    """The iterations of a run, without what took how long."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if "seconds" not in name} for line in lines if "reward" in line
    ]
