"""Make sure that the four folders of the program are its own, and not somebody's folder of the same name.

`rewards`, `benchmarks` and `cli` are common names: a folder so called, in the current directory or on PYTHONPATH, may
be found first. Must import nothing of ours, since that may be what is wrong.
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

FOLDERS = ("dgpo", "rewards", "benchmarks", "cli")
WRONG_USE = 2


def refuse_intruders() -> None:
    """Leave with a sentence for each of our folders that Python would import from elsewhere."""
    problems = list(find_intruders(Path(__file__).resolve().parent.parent))
    if problems:
        print("\n".join(f"dgpo: {problem}" for problem in problems), file=sys.stderr)
        raise SystemExit(WRONG_USE)


def find_intruders(home: Path) -> Iterator[str]:
    """A sentence for each folder that is not imported from `home`."""
    for name in FOLDERS:
        place = _find(name)
        if place is None:
            yield f"its folder {home / name} is missing; install it again: pip install --force-reinstall dgpo"
        elif place.parent != home:
            yield (
                f"{place} is in the way of {home / name}, which belongs to dgpo. Rename it, or keep its folder off"
                " Python's path: look into PYTHONPATH, and start `dgpo` from elsewhere if you use python -m."
            )


def _find(name: str) -> Path | None:
    """The folder (or the module file) that Python imports under this name."""
    spec = find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
