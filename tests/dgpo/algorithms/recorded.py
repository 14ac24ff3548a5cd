"""Numbers of the published codes (`tests/golden/algorithms`), case by case; see its README for what each of them is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[2] / "golden" / "algorithms"
EXACT = 1e-12
"""A float64 computation against the published one in float64, relative to the largest entry."""


class Case:
    """One recorded case; inputs are widened to float64, which they were when the `_f64` numbers were made."""

    def __init__(self, name: str, values: dict[str, np.ndarray]) -> None:
        self.name, self.values = name, values

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.as_tensor(np.asarray(self.values[name], dtype=np.float64))

    def number(self, name: str) -> float:
        return float(self.values[name])

    def word(self, name: str) -> str:
        return str(self.values[name])

    def wide(self, name: str) -> torch.Tensor:
        """What the published code gave in float64, or in float32 where it was given no more."""
        return self[f"{name}_f64" if f"{name}_f64" in self.values else name]

    def flags(self, name: str) -> torch.Tensor:
        return torch.as_tensor(np.asarray(self.values[name], dtype=bool))

    def __repr__(self) -> str:
        return self.name


def cases(file: str) -> list[Any]:
    """Parameters for pytest, one a case."""
    return [pytest.param(case, id=case.name) for case in _cases(file)]


def _cases(file: str) -> Iterator[Case]:
    with np.load(GOLDEN / f"{file}.npz") as stored:
        found: dict[str, dict[str, np.ndarray]] = {}
        for key in stored:
            case, _, name = key.partition(".")
            found.setdefault(case, {})[name] = stored[key]
    yield from (Case(name, values) for name, values in found.items())


def agree(ours: torch.Tensor | float, theirs: torch.Tensor, what: str = "", bound: float = EXACT) -> None:
    """Largest difference within `bound` of the largest entry."""
    one = torch.as_tensor(ours, dtype=torch.float64)
    scale = max(float(theirs.abs().max()), 1e-300)
    furthest = float((one - theirs).abs().max())
    assert furthest <= bound * scale, f"{what}: differs by {furthest / scale:.2e} of the largest entry"
