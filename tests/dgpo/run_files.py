"""What a training left in its folder, and said."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def trained_weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    path = folder / "checkpoints" / f"step-{step:06d}" / "trainer.safetensors"
    return {name: tensor.double() for name, tensor in load_file(path).items() if name.startswith("trained/")}


def flat(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def steps(folder: Path) -> list[dict[str, Any]]:
    """The lines of iterations, without those of evaluations."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "reward" in line]


def news(notes: Iterable[str]) -> list[str]:
    """Without what every training says as it begins."""
    return [note for note in notes if not note.startswith(("precision: ", "training in ", "continuing in "))]
