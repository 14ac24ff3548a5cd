"""Two training runs, bit for bit: `python -m dgpo.compare_runs A B [--assert-equal]`.

After a change that must not change what is learned, train the same config with both programs and compare the folders:
metrics (all but timings), sample grids, held-out scores, and every tensor of every checkpoint (weights, snapshots,
optimiser). The first step and quantity that differ tell where to look.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from dgpo.checkpoint import checkpoints
from dgpo.metrics import read_lines
from rewards.errors import DgpoError, UsageError
from rewards.exits import DONE, GATE_FAILED
from rewards.files import sha256, sha256_of

SHOWN = 20
# What differs between two runs of one program: how long things took, and where the folder lies.
TIMINGS = frozenset({"seconds", "scoring_seconds"})
PLACES = frozenset({"run", "image", "seconds"})

Quantities = dict[tuple[int, str], str]
"""What a run holds, by step and name: a number as it was written, or the hash of a tensor or a picture."""


@dataclass(frozen=True)
class Difference:
    """One quantity of one step that is not the same in both runs; None where a run lacks it."""

    step: int
    name: str
    a: str | None
    b: str | None

    def __str__(self) -> str:
        one, other = ("absent" if value is None else value for value in (self.a, self.b))
        return f"step {self.step}: {self.name}: {one} in A, {other} in B"


def compare_runs(a: Path, b: Path) -> list[Difference]:
    """Every difference, the earliest step first; within a step metrics before pictures before tensors.

    Raises:
        UsageError: a folder holds no run.
    """
    one, other = read_quantities(a), read_quantities(b)
    places = {place: number for number, place in enumerate([*one, *other])}
    differing = [place for place in places if one.get(place) != other.get(place)]
    differing.sort(key=lambda place: (place[0], places[place]))
    return [Difference(*place, one.get(place), other.get(place)) for place in differing]


def digest_run(folder: Path) -> str:
    """One hash of everything that `compare_runs` compares."""
    lines = sorted(f"{step} {name} {value}\n" for (step, name), value in read_quantities(folder).items())
    return sha256_of("".join(lines))


def read_quantities(folder: Path) -> Quantities:
    """Metrics, sample grids, held-out scores and checkpoints of a run folder."""
    if not (folder / "metrics.jsonl").is_file():
        raise UsageError(f"{folder} holds no training run: there is no metrics.jsonl in it.")
    found: Quantities = {}
    for metrics in read_lines(folder / "metrics.jsonl").whole:
        found.update(((metrics["step"], name), value) for name, value in _flatten(metrics))
    for path in sorted((folder / "samples").glob("step-*.png")):
        found[_step(path), f"samples/{path.name}"] = sha256(path)
    for path in sorted((folder / "evaluations").glob("step-*/scores.csv")):
        found.update(_scores(path))
    for checkpoint in checkpoints(folder / "checkpoints"):
        found.update(_tensors(checkpoint))
    return found


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every number of nested mappings under its dotted name; JSON writes floats so that their bits come back."""
    if isinstance(value, Mapping):
        for key in value.keys() - TIMINGS:
            yield from _flatten(value[key], f"{name}.{key}" if name else key)
    else:
        yield name, json.dumps(value)


def _scores(path: Path) -> Iterator[tuple[tuple[int, str], str]]:
    step = _step(path.parent)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kept = {column: text for column, text in row.items() if column not in PLACES}
            yield (step, f"held out: {row['reward']} of {row['prompt_id']}, seed {row['seed']}"), json.dumps(kept)


def _tensors(checkpoint: Path) -> Iterator[tuple[tuple[int, str], str]]:
    """Tensors are hashed one by one, since a file's bytes may name them in another order."""
    step = _step(checkpoint)
    for path in sorted(checkpoint.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                described = f"{tensor.dtype} {list(tensor.shape)} {sha256_of(data)}"
                yield (step, f"{path.relative_to(checkpoint)}: {name}"), described


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def main(arguments: list[str]) -> int:
    """Print the differences; with --assert-equal the exit code is 4 where there is one."""
    parser = argparse.ArgumentParser(prog="python -m dgpo.compare_runs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("a", type=Path, help="a run folder")
    parser.add_argument("b", type=Path, help="another one")
    parser.add_argument("--assert-equal", action="store_true", help="exit 4 if anything differs")
    asked = parser.parse_args(arguments)
    try:
        differences = compare_runs(asked.a, asked.b)
    except DgpoError as error:
        print(f"dgpo: {error}", file=sys.stderr)
        return error.exit_code
    for difference in differences[:SHOWN]:
        print(difference)
    if len(differences) > SHOWN:
        print(f"and {len(differences) - SHOWN} more")
    if not differences:
        print(f"equal in {len(read_quantities(asked.a))} quantities")
    return GATE_FAILED if differences and asked.assert_equal else DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
