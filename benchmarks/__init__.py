"""How good is a model over a whole suite, and is one better than another?

    import benchmarks

    suite = benchmarks.load_suite("prompts.txt")
    summary = benchmarks.evaluate(benchmarks.Request(suite, specs, folder, "my model", draw=draw))

`Request`, `evaluate`, `Suite`, `load_suite`, `compare` and `load_scores` are public; they are imported when they are
first used, so that `import benchmarks` costs nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from benchmarks.harness.evaluate import evaluate
    from benchmarks.harness.request import Request
    from benchmarks.reading.compare import compare
    from benchmarks.suite import Suite
    from benchmarks.suites import load_suite

_PLACES = {
    "Request": "harness.request",
    "Suite": "suite",
    "compare": "reading.compare",
    "evaluate": "harness.evaluate",
    "load_suite": "suites",
}
__all__ = ["Request", "Suite", "compare", "evaluate", "load_scores", "load_suite"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"benchmarks.{_PLACES[name]}"), name)


def load_scores(folder: Path | str, *more: Path | str) -> pandas.DataFrame:
    """The scores of one or several results folders as one typed table with the columns of scores.csv.

    Text is never NaN, and a score that could not be made is. The column `run` tells the folders apart where their runs
    have different names. See `benchmarks.harness.store`.
    """
    import pandas

    from benchmarks.harness.store import load_scores as load_one

    return pandas.concat([load_one(one) for one in (folder, *more)], ignore_index=True)
