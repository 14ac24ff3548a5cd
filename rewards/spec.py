"""RewardSpec: one reward with its version, options, weights and training weight, as a picklable value.

It knows of no table and asks nobody; `rewards.parse` makes specs of words.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RewardSpec:
    """Says everything needed to build a reward; `options` holds only values that differ from the card's defaults.

    `source` is the absolute path and the class of a reward that was given as path/to/file.py:Class, or the address of
    one that a server scores, with what tells that the server is still the same behind a #.
    """

    name: str
    version: int
    options: tuple[tuple[str, str], ...] = ()
    weights: str | None = None
    train_weight: float = 1.0
    source: str | None = None

    @property
    def key(self) -> str:
        """Name of this variant in every table, for instance ocr@1 or ocr@1[weights=v4]."""
        options = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}@{self.version}" + (f"[{options}]" if options else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "options": dict(self.options),
            "weights": self.weights,
            "train_weight": self.train_weight,
            "source": self.source,
        }
