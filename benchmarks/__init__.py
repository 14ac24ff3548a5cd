"""How good is a model over a whole suite, and is one better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load_scores(folder: Path | str) -> pandas.DataFrame:
    """The scores of a results folder as a typed table; see `benchmarks.store`."""
    from benchmarks.store import load_scores

    return load_scores(folder)
