"""A run folder: what the run was told, what it did, and where it stands.

config.yaml, run.json (provenance), metrics.jsonl, checkpoints/, samples/, evaluations/, curve.png. One process group at a time may
write in it; the same command continues it, another run's command is refused.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dgpo.checkpoint import checkpoints, damage
from dgpo.config import Config, check_config
from rewards.errors import UsageError

# Settings that may change between the parts of one run: how long it goes on and what it does beside learning.
FREE = ("steps", "workers", "max_failed", "evaluation", "checkpoint", "samples")


class Run:
    """One training run on disk."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder; a second process that tries is told so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"Another process is training in {self.folder}. Wait for it, or choose another --output.") from None
            yield

    def begin(self, config: Config, provenance: Mapping[str, Any], *, fresh: bool) -> bool:
        """Make the folder this run's; True when it continues an earlier part of the same run.

        Raises:
            UsageError: the folder belongs to a run with other settings, or holds something that is no run.
        """
        path = self.folder / "config.yaml"
        if fresh:
            self._clear()
        elif path.exists():
            self._refuse_other(read_config(self.folder), config)
        elif any(entry.name != ".lock" for entry in self.folder.iterdir()):
            raise UsageError(f"{self.folder} is not empty and holds no run. Choose another --output.")
        continues = path.exists()
        path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        (self.folder / "run.json").write_text(json.dumps(dict(provenance), indent=2) + "\n")
        self.checkpoints.mkdir(exist_ok=True)
        return continues

    def last_checkpoint(self) -> tuple[Path | None, list[str]]:
        """The newest whole checkpoint, and a sentence for each damaged one that was passed over (and set aside)."""
        notes = []
        for path in checkpoints(self.checkpoints):
            problem = damage(path)
            if problem is None:
                return path, notes
            notes.append(f"{path} cannot be used ({problem}); going back to the one before.")
            path.rename(path.with_name(f"damaged-{path.name}"))
        return None, notes

    def cut_metrics(self, step: int) -> None:
        """Forget the lines written after `step`: the run goes on from there and writes them again."""
        if self.metrics.exists():
            kept = [line for line in _whole_lines(self.metrics) if line["step"] <= step]
            self.metrics.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def record(self, line: Mapping[str, Any]) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(dict(line)) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        return _whole_lines(self.metrics) if self.metrics.exists() else []

    def _refuse_other(self, there: Config, here: Config) -> None:
        old, new = there.model_dump(), here.model_dump()
        differing = [name for name in new if name not in FREE and old[name] != new[name]]
        if differing:
            told = "; ".join(f"{name} is {old[name]!r} there and {new[name]!r} here" for name in differing)
            raise UsageError(
                f"{self.folder} holds another run: {told}. Choose another --output, or start over with --fresh (which deletes that run)."
            )

    def _clear(self) -> None:
        """Delete a run's files, and only those."""
        for name in ("config.yaml", "run.json", "metrics.jsonl", "curve.png"):
            (self.folder / name).unlink(missing_ok=True)
        for name in ("checkpoints", "samples", "evaluations"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def read_config(folder: Path) -> Config:
    """The config a run folder was trained with."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is no run folder: it holds no config.yaml.")
    return check_config(yaml.safe_load(path.read_text()), source=str(path))


def find_checkpoint(folder: Path, step: int | None) -> Path:
    """The checkpoint of that step, or the newest; refused with a sentence if it is absent or damaged."""
    present = list(checkpoints(folder / "checkpoints"))
    if not present:
        raise UsageError(f"{folder} holds no checkpoint yet.")
    path = present[0] if step is None else folder / "checkpoints" / f"step-{step:06d}"
    if path not in present:
        steps = ", ".join(str(int(found.name.removeprefix("step-"))) for found in reversed(present))
        raise UsageError(f"{folder} has no checkpoint of step {step}; it has {steps}.")
    problem = damage(path)
    if problem is not None:
        raise UsageError(f"{path} cannot be used: {problem}. Name another one with @STEP.")
    return path


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Lines that are whole; a killed run may leave half of one."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
