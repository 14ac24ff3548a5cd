"""Checkpoints: a folder that is whole or absent, `step-NNNNNN/`.

Holds what others load (diffusers LoRA weights, or the transformer under full fine-tuning: the evaluation average where
one is kept) and what resuming needs (`trainer.safetensors`, `trainer.json`). `manifest.json` holds every file's
SHA-256, so a damaged checkpoint is known before it is used.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dgpo.policy import ADAPTER, REFERENCE, Policy, Who, on_host
from rewards.errors import SetupError, UsageError
from rewards.files import about, flush, flush_folder, move, read_json, sha256

MANIFEST = "manifest.json"
PROGRESS = "trainer.json"
# What a checkpoint says of the weights that it publishes.
TRAINED = "trained"
PUBLISHED: dict[Who, str] = {"average": "average", "current": TRAINED}
LORA_FILE = "pytorch_lora_weights.safetensors"
STATE_FILES = (PROGRESS, "trainer.safetensors")

_SAVED = ".saved"
_NAME = re.compile(r"step-(\d{6}|[1-9]\d{6,})")


@dataclass(frozen=True)
class Progress:
    """How far a run has come: iterations done and optimiser steps made."""

    step: int = 0
    updates: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds, copied to host memory, so that it can be written while the run goes on."""

    progress: Progress
    published: Who
    weights: dict[str, torch.Tensor]
    """As `Policy.published_weights` gives them."""
    trainer: dict[str, torch.Tensor]
    """What resuming needs."""


def take_snapshot(policy: Policy, optimizer: torch.optim.Optimizer, progress: Progress) -> Snapshot:
    """The state as it is now."""
    published = policy.published
    return Snapshot(progress, published, policy.published_weights(published), _trainer_tensors(policy, optimizer))


def save_checkpoint(folder: Path, policy: Policy, snapshot: Snapshot, *, keep: int | None = None) -> Path:
    """Write beside, then rename: a reader sees all of it or nothing.

    The files inside are written plainly, and flushed before the folder gets its name.

    Args:
        keep: how many checkpoints may be there then; older ones are removed. None keeps all.
    """
    final = checkpoint_of(folder, snapshot.progress.step)
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with about(partial), _tensors_like_other_files():
            _write(partial, policy, snapshot)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    replaced = folder / f".{final.name}.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        move(final, replaced)
    move(partial, final)
    shutil.rmtree(replaced, ignore_errors=True)
    (folder / _SAVED).touch()
    flush_folder(folder)
    if keep is not None:
        _prune(folder, keep)
    return final


def _prune(folder: Path, keep: int) -> None:
    """Remove the oldest checkpoints beyond `keep`; each is renamed first, so that none is ever there in part."""
    for path in list(checkpoints(folder))[keep:]:
        if not path.is_symlink():
            removed = folder / f".{path.name}.removed"
            shutil.rmtree(removed, ignore_errors=True)
            shutil.rmtree(move(path, removed), ignore_errors=True)


def _write(partial: Path, policy: Policy, snapshot: Snapshot) -> None:
    partial.mkdir(parents=True)
    publish_weights(partial, policy, snapshot.weights)
    progress = snapshot.progress
    facts = {"step": progress.step, "updates": progress.updates, "published": PUBLISHED[snapshot.published]}
    (partial / PROGRESS).write_text(json.dumps(facts, allow_nan=False))
    save_file(snapshot.trainer, partial / "trainer.safetensors")
    _share(partial, like=partial / PROGRESS)
    hashes = {str(path.relative_to(partial)): sha256(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    (partial / MANIFEST).write_text(json.dumps(hashes, indent=1))
    for path in partial.rglob("*"):
        if path.is_file():
            flush(path)
    for place in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
        flush_folder(place)


@contextmanager
def _tensors_like_other_files() -> Iterator[None]:
    """A full disk is an OSError from safetensors too, which says it in words of its own."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def publish_weights(folder: Path, policy: Policy, weights: dict[str, torch.Tensor]) -> None:
    """What `dgpo eval` and diffusers load: the evaluation average, or the trained weights (see `Policy.published`)."""
    if policy.training.method == "lora":
        metadata = _in_order(policy.model.transformer.peft_config[ADAPTER].to_dict())
        policy.model.save_lora(folder, weights, metadata)
        _order_header(folder / LORA_FILE)
    else:
        place = folder / policy.model.network
        place.mkdir()
        save_file(weights, place / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        (place / "config.json").write_text(policy.model.transformer.to_json_string())


def read_published(folder: Path, method: str, network: str = "transformer") -> dict[str, torch.Tensor]:
    """What `publish_weights` wrote, by the network's own names; `network` is what the family calls it."""
    if method == "full":
        return _read_tensors(folder / network / "diffusion_pytorch_model.safetensors")
    tensors = _read_tensors(folder / LORA_FILE)
    return {name.removeprefix(f"{network}."): tensor for name, tensor in tensors.items()}


def restore_checkpoint(path: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> Progress:
    """Put trained weights, snapshots and optimiser back exactly as they were saved."""
    tensors = _read_tensors(path / "trainer.safetensors")
    expected = set(_trainer_tensors(policy, None))
    # Earlier versions wrote down the reference of full fine-tuning too, which is the base model's own weights.
    present = {name for name in tensors if not name.startswith(("optimizer/", f"{REFERENCE}/"))}
    if expected != present:
        wrong = sorted(expected.symmetric_difference(present))[:3]
        raise UsageError(
            f"{path} was saved by a differently configured run (for instance {', '.join(wrong)}). "
            "Start over with --fresh."
        )
    with torch.no_grad():
        for name, parameter in policy.trained.items():
            parameter.copy_(tensors[f"trained/{name}"])
    for who, snapshot in _changing(policy).items():
        for name in snapshot:
            snapshot[name].copy_(tensors[f"{who}/{name}"])
    state = {}
    for key in (key for key in tensors if key.startswith("optimizer/")):
        _, place, field = key.split("/")
        state.setdefault(int(place), {})[field] = tensors[key]
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    facts = _read_progress(path)
    return Progress(facts["step"], facts["updates"])


def whose_weights(path: Path) -> str | None:
    """What a checkpoint published, one of `PUBLISHED`'s; None where it does not say."""
    return _read_progress(path).get("published")


def checkpoints(folder: Path) -> Iterator[Path]:
    """Newest first; a copy that somebody has put beside them under another name is none."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    yield from sorted(found, key=step_of, reverse=True)


def once_held_some(folder: Path) -> bool:
    """Whether a checkpoint was saved here, even if it is gone now: then a run that finds none must not begin again."""
    return (folder / _SAVED).exists() or any(not path.name.startswith(".") for path in folder.iterdir())


def checkpoint_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:06d}"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file is as it was written.

    Raises:
        SetupError: a file that is there may not be read, which is no damage.
    """
    try:
        with _readable(path / MANIFEST):
            hashes = read_json(path / MANIFEST)
    except (FileNotFoundError, ValueError):
        return "its manifest cannot be read"
    if not isinstance(hashes, dict) or not set(STATE_FILES) < set(hashes):
        return "its manifest does not name its files"
    for name, expected in hashes.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"its manifest names {name}, which is not in it"
        if not os.path.isfile(path / name):
            return f"{name} is missing"
        with _readable(path / name):
            if sha256(path / name) != expected:
                return f"{name} is damaged"
    return None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SetupError(f"{path} cannot be read ({error.strerror}). Ask its owner, or mend the disk.") from None


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise UsageError(f"{path} cannot be used: {error}. Bring the checkpoint back, or name another one.") from None


def _read_progress(checkpoint: Path) -> dict[str, Any]:
    try:
        facts = read_json(checkpoint / PROGRESS)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not all(type(facts.get(name)) is int for name in ("step", "updates")):
        raise UsageError(f"{checkpoint / PROGRESS} does not say how far the run had come; name another checkpoint.")
    return facts


def _share(folder: Path, like: Path) -> None:
    """Give all files the mode of one that Python has written, which follows the umask; safetensors' is 0600."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(like.stat().st_mode & 0o777)


def _in_order(metadata: dict[str, Any]) -> dict[str, Any]:
    """Sets as sorted lists, so that the same adapter is described by the same words."""
    return {name: sorted(value) if isinstance(value, set) else value for name, value in metadata.items()}


def _order_header(path: Path) -> None:
    """Sort the metadata of a safetensors file, whose order is by chance; nothing else moves."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        written = file.read(size)
        header = json.loads(written)
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert sorted(ordered) == sorted(written), "only the order of what is written there changes"
        file.seek(8)
        file.write(ordered)


def _trainer_tensors(policy: Policy, optimizer: torch.optim.Optimizer | None) -> dict[str, torch.Tensor]:
    tensors = {f"trained/{name}": p.detach() for name, p in policy.trained.items()}
    for who, snapshot in _changing(policy).items():
        tensors |= {f"{who}/{name}": tensor for name, tensor in snapshot.items()}
    if optimizer is not None:
        for place, fields in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{place}/{field}": value for field, value in fields.items()}
    return {name: on_host(tensor) for name, tensor in tensors.items()}


def _changing(policy: Policy) -> dict[Who, dict[str, torch.Tensor]]:
    """The weights beside the trained ones that a training changes; the reference is what the model was loaded with."""
    return {who: tensors for who, tensors in policy.snapshots.items() if who != REFERENCE}
