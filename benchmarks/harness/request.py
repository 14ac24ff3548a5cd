"""An evaluation as one value, for `benchmarks.evaluate(Request(...))`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.images import Cell, Draw, cells_of
from benchmarks.suite import Suite
from rewards.spec import RewardSpec

# Images that are drawn at once, by one process, and judged at once, by one worker.
BLOCK = 16


@dataclass(frozen=True)
class Request:
    """What is to be measured, by what, and where the results go; the same request again makes only what is missing.

    Exactly one of `draw` and `images` is given.
    """

    suite: Suite
    specs: Sequence[RewardSpec]
    """By what is measured."""
    folder: Path
    """The results folder."""
    run_name: str
    """How tables call what is measured."""
    seeds: Sequence[int] = (0,)
    """Images per prompt."""
    draw: Draw | None = None
    """Makes the images of some cells (prompt and seed); it is asked for blocks that are the same in every process."""
    images: Path | None = None
    """A folder of images made elsewhere."""
    trained_on: Collection[str] | None = None
    """The keys of the rewards that the model was trained with; None for one that no reward trained."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Recorded in run.json; its `model` and `sampler` tell whether a folder's results belong to this request."""
    block: int = BLOCK
    """Images drawn at once, by one process, and judged at once, by one worker."""

    @property
    def total(self) -> int:
        """How many images it asks for."""
        return len(self.suite.prompts) * len(self.seeds)


def blocks_of(suite: Suite, seeds: Sequence[int], size: int = BLOCK) -> list[list[Cell]]:
    """The cells of a suite in blocks, none of which has two seeds."""
    return [cells[start : start + size] for cells in cells_of(suite, seeds) for start in range(0, len(cells), size)]
