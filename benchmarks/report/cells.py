"""Everything the page's script needs, as columns: one entry a cell (prompt and seed), in the suite's order.

Numbers are rounded to six digits, and texts that repeat are stored once. What is exact stays in scores.csv.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.harness.images import CellKey
from benchmarks.harness.store import OK, Row
from benchmarks.reading.results import Results
from benchmarks.report.thumbnails import Job

# Longest detail of a score; the first with which all details stay below DETAILS_BYTES.
DETAIL_LIMITS = (4000, 1000, 300, 100)
DETAILS_BYTES = 5_000_000
CUT = "... (cut here; scores.csv has all of it)"


@dataclass(frozen=True)
class Cells:
    """`data` is plain JSON for the page; `jobs` are the images that may get a thumbnail."""

    data: dict[str, Any]
    jobs: list[Job]
    notes: list[str]


def collect(runs: Sequence[Results], categories: Mapping[str, str], beside: Path) -> Cells:
    """The cells of all runs together; links to images are relative to the folder `beside`.

    `categories` gives the category of a prompt by its id.
    """
    texts = _prompts(runs)
    place = {prompt_id: number for number, prompt_id in enumerate(texts)}
    keys = {key for run in runs for rows in run.scores.values() for key in rows}
    cells = sorted(keys, key=lambda key: (place[key[0]], key[1]))
    rewards = list(dict.fromkeys(key for run in runs for key in run.scores))
    names = sorted({categories[prompt_id] for prompt_id in texts if prompt_id in categories})
    limit = _detail_limit(runs)
    strings = _Strings(limit)
    data = {
        "prompts": list(texts.values()),
        "ids": list(texts),
        "categories": names,
        "category": [names.index(categories[one]) if one in categories else -1 for one in texts],
        "prompt": [place[prompt_id] for prompt_id, _ in cells],
        "seed": [seed for _, seed in cells],
        "rewards": [_describe(key, runs) for key in rewards],
        "runs": [_columns(run, rewards, cells, strings, beside) for run in runs],
        "texts": strings.texts,
    }
    jobs = [job for number, run in enumerate(runs) for job in _jobs(number, run, cells)]
    notes = [f"Details of scores longer than {limit} characters are cut; scores.csv has them whole."]
    return Cells(data, jobs, notes if strings.cut else [])


def image_rows(run: Results) -> dict[CellKey, Row]:
    """For each cell a row that knows its image; rows of all rewards name the same one."""
    found: dict[CellKey, Row] = {}
    for rows in run.scores.values():
        for key, row in rows.items():
            found.setdefault(key, row)
    return found


def link(path: Path, beside: Path) -> str:
    """A relative URL from a page in `beside` to a file."""
    return quote(Path(os.path.relpath(path.resolve(), beside.resolve())).as_posix())


def round_score(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


class _Strings:
    """Numbers texts, so that one which repeats is stored once."""

    def __init__(self, limit: int) -> None:
        self.texts: list[str] = [""]
        self.limit = limit
        self.cut = False
        self._number = {"": 0}

    def number(self, text: str) -> int:
        if len(text) > self.limit:
            text = text[: self.limit] + CUT
            self.cut = True
        if text not in self._number:
            self._number[text] = len(self.texts)
            self.texts.append(text)
        return self._number[text]


def _prompts(runs: Sequence[Results]) -> dict[str, str]:
    """The text of each prompt that was scored, by its id."""
    scored = {prompt_id for run in runs for rows in run.scores.values() for prompt_id, _ in rows}
    prompts = {prompt_id: prompt for run in runs for prompt_id, prompt in run.prompts.items()}
    return {prompt_id: prompt.text for prompt_id, prompt in prompts.items() if prompt_id in scored}


def _detail_limit(runs: Sequence[Results]) -> int:
    lengths = [
        len(text) for text in {row.detail for run in runs for rows in run.scores.values() for row in rows.values()}
    ]
    fitting = (limit for limit in DETAIL_LIMITS if sum(min(one, limit) for one in lengths) <= DETAILS_BYTES)
    return next(fitting, DETAIL_LIMITS[-1])


def _describe(key: str, runs: Sequence[Results]) -> dict[str, Any]:
    card = next(run.card(key) for run in runs if key in run.scores)
    return {
        "key": key,
        "unit": card["unit"],
        "higher": card["higher_is_better"],
        "summary": card["summary"],
        "bounds": card["bounds"],
    }


def _columns(
    run: Results, rewards: Sequence[str], cells: Sequence[CellKey], strings: _Strings, beside: Path
) -> dict[str, Any]:
    images = image_rows(run)
    folder = link(run.folder / "images", beside) + "/"
    links = []
    for prompt_id, seed in cells:
        row = images.get((prompt_id, seed))
        if row is None or row.image == f"images/{prompt_id}_{seed}.png":
            links.append(None if row is not None else "")
        else:
            links.append(link(run.folder / row.image, beside))
    return {
        "name": run.name,
        "folder": folder,
        "links": links if any(one is not None for one in links) else None,
        "scores": [_scores(run, key, cells) for key in rewards],
        "details": [_details(run, key, cells, strings) for key in rewards],
        "states": [_states(run, key, cells) for key in rewards],
    }


def _scores(run: Results, key: str, cells: Sequence[CellKey]) -> list[float | None] | None:
    if key not in run.scores:
        return None
    rows = run.scores[key]
    return [round_score(rows[cell].score) if cell in rows else None for cell in cells]


def _details(run: Results, key: str, cells: Sequence[CellKey], strings: _Strings) -> list[int] | None:
    if key not in run.scores:
        return None
    rows = run.scores[key]
    return [strings.number(rows[cell].detail) if cell in rows else 0 for cell in cells]


def _states(run: Results, key: str, cells: Sequence[CellKey]) -> dict[int, str]:
    """The cells of this reward without a score, with their status; few, so only those are stored."""
    rows = run.scores.get(key, {})
    return {number: rows[cell].status for number, cell in enumerate(cells) if cell in rows and rows[cell].status != OK}


def _jobs(number: int, run: Results, cells: Sequence[CellKey]) -> list[Job]:
    images = image_rows(run)
    return [
        Job(number, place, cell[1], run.folder / row.image, row.image_sha)
        for place, cell in enumerate(cells)
        if (row := images.get(cell)) is not None and row.image and row.image_sha
    ]
