"""How good is a model over a whole suite, and is one better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load_scores(folder: Path | str, *more: Path | str) -> pandas.DataFrame:
    """The scores of one or several results folders as one typed table with the columns of scores.csv.

    Text is never NaN, and a score that could not be made is. The column `run` tells the folders apart where their runs
    have different names. See `benchmarks.harness.store`.
    """
    import pandas

    from benchmarks.harness.store import load_scores as load_one

    return pandas.concat([load_one(one) for one in (folder, *more)], ignore_index=True)
