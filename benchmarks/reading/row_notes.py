"""How a row of ours was made, in the words of its note; and where the published ones were not made so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.record import DRAWN
from benchmarks.reading import published
from benchmarks.reading.results import Results, tell_engine


def describe_row(name: str, runs: Mapping[str, Results], used: Mapping[str, set[str]]) -> str:
    """A sentence for each suite and reward of which the row has a number.

    Args:
        runs: the model's results folders by suite.
        used: the keys of the rewards by suite.
    """
    parts = []
    for suite, keys in used.items():
        run = runs[suite]
        parts.append(
            f"{run.suite}: {run.record['suite']['prompts']} prompts (sha256 {run.record['suite']['sha256'][:12]}),"
            f" {_count(run.record['seeds'])} per prompt, {_sampler(run)}; "
            + "; ".join(f"{key} by {_scored_by(run.card(key))}" for key in sorted(keys))
        )
    return f"{name}: " + ". ".join(parts) + "."


def find_differences(runs: Mapping[str, Results], used: Mapping[str, set[str]]) -> list[str]:
    """In what a row's numbers were made otherwise than the DGPO paper's, besides what the notes say of all; of suites
    that it does not have nothing is known."""
    of_paper = [(suite, keys) for suite, keys in used.items() if suite in published.SEEDS]
    return list(dict.fromkeys(one for suite, keys in of_paper for one in _differences(runs[suite], suite, keys)))


def _differences(run: Results, suite: str, keys: set[str]) -> list[str]:
    """In what a folder's numbers were made otherwise than the published ones, besides what the notes say of all."""
    record, found = run.record, []
    if not re.search(rf"{re.escape(published.BASE_MODEL)}(@.+)?$", str(_facts(run, "model").get("base", ""))):
        found.append(f"the model is not known to be {published.BASE_MODEL}, as it is or trained")
    sampler = _facts(run, "sampler")
    if sampler and (sampler.get("height"), sampler.get("width")) != (published.SIZE, published.SIZE):
        found.append(f"images of {sampler.get('width')} x {sampler.get('height')} pixels")
    if run.suite != suite:
        found.append(f"only the prompts {run.suite}")
    if len(record["seeds"]) != published.SEEDS[suite]:
        found.append(f"{_count(record['seeds'])} per prompt of {suite} and not {published.SEEDS[suite]}")
    if not record["finished"]:
        found.append(f"the evaluation on {suite} was not finished")
    for key in sorted(keys):
        if "[" in key:
            found.append(f"{key} has other options")
        if run.card(key)["spec"].get("weights"):
            found.append(f"{key} has weights from a folder that was named, which need not be the published ones")
    return found


def _sampler(run: Results) -> str:
    sampler = _facts(run, "sampler")
    if not sampler:
        where = "by nobody knows which sampler" if run.record["images"] == DRAWN else "found in a folder"
        return f"images {where}"
    return "drawn with " + ", ".join(f"{name} {value}" for name, value in sampler.items())


def _facts(run: Results, name: str) -> Mapping[str, Any]:
    """What the caller recorded of the model or the sampler, as far as it is known."""
    facts = run.record.get(name)
    return facts if isinstance(facts, dict) else {}


def _scored_by(card: Mapping[str, Any]) -> str:
    engine, weights = tell_engine(card["provenance"])
    return engine if weights == "none" else f"{engine} ({weights})"


def _count(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} image{'' if len(seeds) == 1 else 's'}"
