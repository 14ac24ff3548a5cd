"""A run folder: what the run was told, what it did, and where it stands.

config.yaml, run.json (provenance), metrics.jsonl, canaries/, checkpoints/, samples/, evaluations/, curve.png. One
process group at a time may write in it; the same command continues it, another run's command is refused.
"""

import fcntl
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dgpo.checkpoint import checkpoints, damage
from dgpo.config import Config, check_config
from dgpo.settings import dump_settings, read_settings
from rewards.errors import UsageError
from rewards.files import replace_file

# Settings that may change between the parts of one run: how long it goes on and what it does beside learning.
FREE = ("steps", "workers", "max_failed", "evaluation", "watch", "checkpoint", "samples")


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
                raise UsageError(
                    f"Another process is training in {self.folder}. Wait for it, or choose another --output."
                ) from None
            yield

    def begin(self, config: Config, provenance: Mapping[str, Any], *, fresh: bool) -> bool:
        """Make the folder this run's; True when it continues an earlier part of the same run.

        Raises:
            UsageError: the folder belongs to a run with other settings, or holds something that is no run.
        """
        path, facts = self.folder / "config.yaml", self.folder / "run.json"
        continues = path.exists() and facts.exists()
        if not continues and any(entry.name[0] != "." and entry != facts for entry in self.folder.iterdir()):
            raise UsageError(f"{self.folder} is not empty and holds no run. Choose another --output.")
        if fresh:
            self._clear()
            continues = False
        elif continues:
            self._refuse_other(read_config(self.folder), config)
        replace_file(facts, (json.dumps(dict(provenance), indent=2) + "\n").encode())
        replace_file(path, dump_settings(config.model_dump(mode="json")).encode())
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
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        return None, notes

    def cut_metrics(self, step: int) -> None:
        """Forget the lines written after `step`: the run goes on from there and writes them again."""
        if self.metrics.exists():
            kept = [line for line in _whole_lines(self.metrics) if line["step"] <= step]
            replace_file(self.metrics, "".join(_strict_json(line) + "\n" for line in kept).encode())

    def record(self, line: Mapping[str, Any]) -> None:
        """Append one line; a number that does not exist (the mean of no scores) is null."""
        with self.metrics.open("a") as file:
            file.write(_strict_json(line) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        return _whole_lines(self.metrics) if self.metrics.exists() else []

    def _refuse_other(self, there: Config, here: Config) -> None:
        old, new = there.model_dump(), here.model_dump()
        differing = [name for name in new if name not in FREE and old[name] != new[name]]
        if differing:
            told = "; ".join(f"{name} is {old[name]!r} there and {new[name]!r} here" for name in differing)
            raise UsageError(
                f"{self.folder} holds another run: {told}. Choose another --output, or start over with --fresh "
                "(which deletes that run)."
            )

    def _clear(self) -> None:
        """Delete a run's files, and only those; what marks the folder as a run's goes last."""
        for name in ("checkpoints", "canaries", "samples", "evaluations"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("metrics.jsonl", "curve.png", "prompts.sha256", "config.yaml", "run.json"):
            (self.folder / name).unlink(missing_ok=True)


def read_config(folder: Path) -> Config:
    """The config a run folder was trained with."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is no run folder: it holds no config.yaml.")
    values, _ = read_settings(path)
    if not values:
        raise UsageError(f"{path} is empty, and a run's settings were in it; bring it back.")
    return check_config(values, source=str(path))


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


def _strict_json(value: Any) -> str:
    return json.dumps(_without_nan(value), allow_nan=False)


def _without_nan(value: Any) -> Any:
    """NaN and infinities are no JSON."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
