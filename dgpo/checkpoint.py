"""Checkpoints: a folder that is whole or absent, `step-NNNNNN/`.

Holds what others load (diffusers LoRA weights, or the transformer under full fine-tuning: the evaluation average where
one is kept) and what resuming needs (`trainer.safetensors`, `trainer.json`). `manifest.json` holds every file's
SHA-256, so a damaged checkpoint is known before it is used.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file

from dgpo.policy import ADAPTER, Policy
from rewards.errors import UsageError
from rewards.files import sha256

MANIFEST = "manifest.json"
LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run has come: iterations done and optimiser steps made."""

    step: int = 0
    updates: int = 0


def save_checkpoint(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, progress: Progress) -> Path:
    """Write beside, then rename: a reader sees all of it or nothing."""
    final = folder / f"step-{progress.step:06d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    publish_weights(partial, policy)
    save_file(_trainer_tensors(policy, optimizer), partial / "trainer.safetensors")
    (partial / "trainer.json").write_text(json.dumps({"step": progress.step, "updates": progress.updates}))
    hashes = {str(path.relative_to(partial)): sha256(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    (partial / MANIFEST).write_text(json.dumps(hashes, indent=1))
    for path in partial.rglob("*"):
        if path.is_file():
            _flush(path)
    replaced = folder / f".{final.name}.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)
    _flush(folder)
    return final


def publish_weights(folder: Path, policy: Policy) -> None:
    """What `dgpo eval` and diffusers load: the evaluation average, or the trained weights where none is kept."""
    weights: dict[str, Any] = policy.published_weights("average" if "average" in policy.snapshots else "current")
    if policy.training.method == "lora":
        metadata = policy.model.transformer.peft_config[ADAPTER].to_dict()
        StableDiffusion3Pipeline.save_lora_weights(
            folder, transformer_lora_layers=weights, transformer_lora_adapter_metadata=metadata
        )
    else:
        (folder / "transformer").mkdir()
        save_file(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        (folder / "transformer" / "config.json").write_text(policy.model.transformer.to_json_string())


def read_published(folder: Path, method: str) -> dict[str, torch.Tensor]:
    """What `publish_weights` wrote, by the transformer's own names."""
    if method == "full":
        return load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    tensors = load_file(folder / LORA_FILE)
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def restore_checkpoint(path: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> Progress:
    """Put trained weights, snapshots and optimiser back exactly as they were saved."""
    tensors = load_file(path / "trainer.safetensors")
    expected = set(_trainer_tensors(policy, None))
    present = {name for name in tensors if not name.startswith("optimizer/")}
    if expected != present:
        wrong = sorted(expected.symmetric_difference(present))[:3]
        raise UsageError(
            f"{path} was saved by a differently configured run (for instance {', '.join(wrong)}). "
            "Start over with --fresh."
        )
    with torch.no_grad():
        for name, parameter in policy.trained.items():
            parameter.copy_(tensors[f"trained/{name}"])
    for who, snapshot in policy.snapshots.items():
        for name in snapshot:
            snapshot[name].copy_(tensors[f"{who}/{name}"])
    state = {}
    for key in (key for key in tensors if key.startswith("optimizer/")):
        _, place, field = key.split("/")
        state.setdefault(int(place), {})[field] = tensors[key]
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**json.loads((path / "trainer.json").read_text()))


def checkpoints(folder: Path) -> Iterator[Path]:
    """Newest first."""
    yield from sorted(folder.glob("step-[0-9]*"), key=lambda path: (len(path.name), path.name), reverse=True)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file is as it was written."""
    try:
        hashes = dict(json.loads((path / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError):
        return "its manifest cannot be read"
    for name, expected in hashes.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if sha256(path / name) != expected:
            return f"{name} is damaged"
    return None


def _trainer_tensors(policy: Policy, optimizer: torch.optim.Optimizer | None) -> dict[str, torch.Tensor]:
    tensors = {f"trained/{name}": p.detach() for name, p in policy.trained.items()}
    for who, snapshot in policy.snapshots.items():
        tensors |= {f"{who}/{name}": tensor for name, tensor in snapshot.items()}
    if optimizer is not None:
        for place, fields in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{place}/{field}": value for field, value in fields.items()}
    return {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
