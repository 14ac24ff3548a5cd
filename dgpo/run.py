"""A run folder: what the run was told, what it did, and where it stands.

config.yaml, run.json (provenance), metrics.jsonl, canaries/, checkpoints/, samples/, evaluations/, curve.png. One
process group at a time may write in it; the same command continues it, another run's command is refused.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dgpo.checkpoint import checkpoint_of, checkpoints, damage, once_held_some, step_of
from dgpo.config import Config, check_config
from dgpo.contents import NAMES, changed
from dgpo.metrics import append_line, cut_lines, read_lines, set_aside
from dgpo.precision import AUTO, Wanted
from dgpo.settings import dump_settings, read_settings
from rewards.errors import UsageError
from rewards.files import locked, move, replace_file, write_json
from rewards.run_record import RECORD_FILE, TRAINING, read_run_record, stamp

# Settings that may change between the parts of one run: how long it goes on and what it does beside learning.
FREE = ("steps", "data", "workers", "max_failed", "evaluation", "watch", "checkpoint", "samples")

LOCK_FILE = ".lock"


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

    @property
    def precision(self) -> Wanted:
        """What an earlier part of this run has settled; `auto` where there was none."""
        begun = self._holds_a_run() and self._made_something()
        return read_config(self.folder).training.dtype if begun else AUTO

    @property
    def checkpointing(self) -> bool | str:
        """Whether an earlier part of this run recomputes activations; `auto` where there was none."""
        begun = self._holds_a_run() and self._made_something()
        return read_config(self.folder).training.checkpointing if begun else AUTO

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder; a second process that tries is told so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        busy = f"Another process is training in {self.folder}. Wait for it, or choose another --output."
        with locked(self.folder / LOCK_FILE, busy):
            yield

    def refuse_busy(self) -> None:
        """Refuse a folder that another process is training in; makes nothing."""
        if (self.folder / LOCK_FILE).exists():
            with self.lock():
                pass

    def refuse_other(self, config: Config, contents: Mapping[str, Any], *, fresh: bool) -> None:
        """Refuse a folder that another run has, by as many of the contents as are known already; changes nothing.

        A folder in which nothing was made yet belongs to nobody, and one that is to start `fresh` to the new run.

        Raises:
            UsageError: the folder belongs to another run, or holds something that is no run.
        """
        if not self._holds_a_run():
            entries = self.folder.iterdir() if self.folder.is_dir() else ()
            if any(entry.name[0] != "." and entry.name != RECORD_FILE for entry in entries):
                raise UsageError(f"{self.folder} is not empty and holds no run. Choose another --output.")
            return
        differing = [] if fresh or not self._made_something() else self._differing(config, contents)
        if differing:
            raise UsageError(
                f"{self.folder} holds another run: {'; '.join(differing)}. Bring back what it began with, choose "
                "another --output, or start over with --fresh (which deletes that run)."
            )

    def begin(
        self,
        config: Config,
        provenance: Mapping[str, Any],
        *,
        fresh: bool,
        on_note: Callable[[str], None] = lambda sentence: None,
    ) -> bool:
        """Make the folder this run's; True when it continues an earlier part of the same run.

        Args:
            provenance: what run.json will hold; its `contents` tell whether this is made from the same as before.

        Raises:
            UsageError: as `refuse_other` does; or the run's checkpoints are gone.
        """
        continues = False
        contents = provenance.get("contents", {})
        self.refuse_other(config, contents, fresh=fresh)
        if fresh:
            for note in self._clear():
                on_note(note)
        elif self._made_something():
            for note in self._unrecorded(contents):
                on_note(note)
            continues = self._find_start(on_note)
        elif self._holds_a_run():
            self._release(config, contents)
        write_json(self.folder / RECORD_FILE, stamp(provenance, TRAINING))
        replace_file(self.folder / "config.yaml", dump_settings(config.model_dump(mode="json")).encode())
        self.checkpoints.mkdir(exist_ok=True)
        return continues

    def last_checkpoint(self) -> tuple[Path | None, list[str]]:
        """The newest whole checkpoint, and a sentence for each damaged one that was passed over (and set aside).

        Raises:
            UsageError: there are some, and none of them is whole.
        """
        notes = []
        for path in checkpoints(self.checkpoints):
            problem = damage(path)
            if problem is None:
                return path, notes
            notes.append(f"{path} cannot be used ({problem}); going back to the one before.")
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            move(path, aside)
        if notes:
            raise self._lost(f"none of its checkpoints can be used. The last of them: {notes[-1].partition(';')[0]}")
        return None, notes

    def cut_metrics(self, step: int) -> list[str]:
        """Forget the lines written after `step`, as the run goes on from there; a sentence about what is damaged."""
        return cut_lines(self.metrics, step)

    def record(self, line: Mapping[str, Any]) -> None:
        """Append one line to the metrics."""
        append_line(self.metrics, line)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add to what run.json says."""
        write_json(self.folder / RECORD_FILE, stamp({**read_facts(self.folder), **facts}, TRAINING))

    def read_metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.metrics).whole

    def _holds_a_run(self) -> bool:
        return (self.folder / "config.yaml").exists() and (self.folder / RECORD_FILE).exists()

    def _made_something(self) -> bool:
        """Whether an iteration was done here: a start that failed before leaves nothing worth keeping."""
        kept = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return self._iterations() > 0 or any(path.name[0] != "." and path.name != "step-000000" for path in kept)

    def _iterations(self) -> int:
        return max((line["step"] for line in self.read_metrics()), default=0)

    def _differing(self, config: Config, contents: Mapping[str, Any]) -> list[str]:
        """What another run was told or made from; what is known by its contents may have another name.

        What is left to the program (`auto`) is as the run began.
        """
        recorded = read_facts(self.folder).get("contents", {})
        old, new = flatten(read_config(self.folder)), flatten(config)
        told = [
            f"{name} is {old.get(name)!r} there and {value!r} here"
            for name, value in new.items()
            if name.partition(".")[0] not in FREE and name not in recorded and value not in (AUTO, old.get(name))
        ]
        return told + list(changed(recorded, contents))

    def _unrecorded(self, contents: Mapping[str, Any]) -> list[str]:
        absent = [NAMES[name] for name in contents if name not in read_facts(self.folder).get("contents", {})]
        if not absent:
            return []
        return [
            f"{self.folder} does not record the contents of {', '.join(absent)} that it began with; they are taken to"
            " be those of now, and recorded."
        ]

    def _find_start(self, on_note: Callable[[str], None]) -> bool:
        """Whether there is a checkpoint to go on from; without one a run begins again, unless one has been lost."""
        if any(checkpoints(self.checkpoints)):
            return True
        every, done = read_config(self.folder).checkpoint.every, self._iterations()
        if 0 < every < done or not self.checkpoints.is_dir() or once_held_some(self.checkpoints):
            raise self._lost(f"it has trained {done} iterations, and none of its checkpoints is there any more")
        aside = set_aside(self.metrics)
        on_note(
            f"{self.folder} was ended before its first checkpoint; its {done} iterations are made again (their metrics"
            f" are kept in {aside.name})."
        )
        return False

    def _lost(self, what: str) -> UsageError:
        return UsageError(
            f"{self.folder} cannot be continued: {what}. Put a checkpoint back, choose another --output, or start over"
            " with --fresh (which deletes that run)."
        )

    def _release(self, config: Config, contents: Mapping[str, Any]) -> None:
        """Take over the folder of a start that made nothing; what it left is of use to the same run only."""
        if self._differing(config, contents):
            self._clear()
        self.metrics.unlink(missing_ok=True)

    def _clear(self) -> list[str]:
        """Delete a run's files, and only those; what marks the folder as a run's goes last.

        Of a link the link goes, which is told, and what it leads to stays: it may be anything.
        """
        first = ("checkpoints", "canaries", "samples", "evaluations")
        last = ("metrics.jsonl", "curve.png", "prompts.sha256", "config.yaml", RECORD_FILE)
        asides = [path.name for path in self.folder.glob("metrics.*-*.jsonl")]
        notes = []
        for path in [self.folder / name for name in (*first, *asides, *last)]:
            if path.is_symlink():
                notes.append(f"{path} was a link to {path.readlink()}; the link is gone, and what it led to is left.")
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return notes


def read_config(folder: Path) -> Config:
    """The config a run folder was trained with."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} is no run folder: it holds no config.yaml.")
    values, _ = read_settings(path)
    if not values:
        raise UsageError(f"{path} is empty, and a run's settings were in it; bring it back.")
    return check_config(values, source=str(path))


def read_facts(folder: Path) -> dict[str, Any]:
    """What run.json says of a run, as a `rewards.run_record.TrainingRecord`; nothing where there is none.

    Raises:
        UsageError: it is damaged, or of a newer version of the program.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return {}
    try:
        return read_run_record(path, TRAINING)
    except ValueError:
        raise UsageError(
            f"{path} is damaged: it holds no record of a run. Bring it back; or write {{}} into it, to go on without "
            "knowing what the run was made from."
        ) from None


def flatten(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name."""

    def walk(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(walk(config.model_dump(mode="json"), ""))


def find_checkpoint(folder: Path, step: int | None) -> Path:
    """The checkpoint of that step, or the newest; refused with a sentence if it is absent or damaged."""
    present = list(checkpoints(folder / "checkpoints"))
    if not present:
        raise UsageError(f"{folder} holds no checkpoint yet.")
    path = present[0] if step is None else checkpoint_of(folder / "checkpoints", step)
    if path not in present:
        steps = ", ".join(str(step_of(found)) for found in reversed(present))
        kept = read_config(folder).checkpoint.keep if (folder / "config.yaml").is_file() else None
        pruned = "" if kept is None else f" (checkpoint.keep={kept} removes older ones)"
        raise UsageError(f"{folder} has no checkpoint of step {step}; it has {steps}{pruned}.")
    problem = damage(path)
    if problem is not None:
        raise UsageError(f"{path} cannot be used: {problem}. Name another one with @STEP.")
    return path
