"""summary.csv: one row per reward, from the scores alone; failed scores are left out of the mean and counted."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.harness.record import domain_of
from benchmarks.harness.store import MISSING, OK, Row
from benchmarks.reading.stats import NO_INTERVAL, estimate
from benchmarks.suite_table import Written
from rewards.files import replace_file

SUMMARY_FILE = "summary.csv"
EXAMPLES = 3


@dataclass(frozen=True)
class SummaryRow:
    """One reward over the suite, in its raw unit; the numbers are None where they cannot be known.

    `prompts` and `seeds` count those with at least one score; `failed` counts the scores that could not be made.
    `interval` says how it was made: bootstrap, from few prompts, or none.
    """

    run: str
    suite: str
    reward: str
    unit: str
    domain: str
    prompts: int
    seeds: int
    failed: int
    mean: float | None
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    interval: str


@dataclass(frozen=True)
class Summary:
    """What an evaluation says when it is done.

    `images` and `failed` count the images that were asked for, and those of them without a score of every reward;
    `failed` above what is allowed is exit code 5. `reasons` counts why, score by score; `failures` says it in lines
    for a person; `notes` what else there is to know: redrawn images, a reward without any score. `tables` holds
    what the suite's own table says, by its name.
    """

    folder: Path
    rows: tuple[SummaryRow, ...]
    images: int
    failed: int
    reasons: Mapping[str, int]
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    tables: Mapping[str, Written] = field(default_factory=dict)


def summarise(
    rows: Iterable[Row], rewards: Mapping[str, Mapping[str, Any]], trained_on: Collection[str] | None
) -> tuple[list[SummaryRow], list[str]]:
    """A summary row for each of the `rewards`, in that order, and a note for each that has no score at all.

    Of a reward its unit and bounds are asked, as run.json has them.
    """
    by_reward: dict[str, list[Row]] = {key: [] for key in rewards}
    for row in rows:
        by_reward[row.reward].append(row)
    table, notes = [], []
    for key, reward in rewards.items():
        scored = by_reward[key]
        if not scored:
            continue
        table.append(_summarise_one(scored, reward, domain_of(key, trained_on)))
        if table[-1].mean is None:
            notes.append(f"{key}: none of {len(scored)} images could be scored, so there is no mean.")
    return table, notes


def count_failures(rows: Iterable[Row]) -> tuple[int, dict[str, int]]:
    """How many images lack a score, and how often each reason was given, most frequent first."""
    failed = [row for row in rows if row.status != OK]
    images = {(row.prompt_id, row.seed) for row in failed}
    return len(images), dict(Counter(row.detail for row in failed).most_common())


def tell_failures(rows: Iterable[Row]) -> tuple[str, ...]:
    """A line for each reason why images lack a score: how many images, and which, the first three by name.

    Reasons that differ in the image's own file only are one reason; an image that several rewards could not judge for
    one reason counts once.
    """
    files_of: dict[str, dict[tuple[str, str, int], str]] = {}
    for row in rows:
        if row.status != OK:
            reason = "the file is not there" if row.status == MISSING else row.detail.replace(row.image or "\0", "it")
            files_of.setdefault(reason, {})[row.image, row.prompt_id, row.seed] = row.image or f"seed {row.seed}"
    lines = []
    for reason, files in sorted(files_of.items(), key=lambda item: -len(item[1])):
        shown = ", ".join(list(dict.fromkeys(files.values()))[:EXAMPLES])
        more = ", ..." if len(files) > EXAMPLES else ""
        counted = "1 image" if len(files) == 1 else f"{len(files)} images"
        lines.append(f"{counted} without a score: {reason} ({shown}{more})")
    return tuple(lines)


def write_summary(folder: Path, table: Sequence[SummaryRow]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in fields(SummaryRow)])
    writer.writerows(["" if value is None else value for value in astuple(row)] for row in table)
    replace_file(folder / SUMMARY_FILE, text.getvalue().encode("utf-8"))


def _summarise_one(rows: Sequence[Row], reward: Mapping[str, Any], domain: str) -> SummaryRow:
    scored = [row for row in rows if row.status == OK]
    numbers, interval = dict.fromkeys(("mean", "stderr", "ci_low", "ci_high")), NO_INTERVAL
    if scored:
        scores = [row.score for row in scored if row.score is not None]
        result = estimate(scores, [row.prompt_id for row in scored], reward["bounds"])
        numbers, interval = {name: _known(getattr(result, name)) for name in numbers}, result.interval
    return SummaryRow(
        run=rows[0].run,
        suite=rows[0].suite,
        reward=rows[0].reward,
        unit=reward["unit"],
        domain=domain,
        prompts=len({row.prompt_id for row in scored}),
        seeds=len({row.seed for row in scored}),
        failed=len(rows) - len(scored),
        **numbers,
        interval=interval,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
