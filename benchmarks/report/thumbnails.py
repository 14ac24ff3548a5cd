"""Small pictures inside the report, as large as its size allows, encoded a few at a time.

A thumbnail goes into the file as base64, so its cost is counted in characters of the file. The size is chosen on a
sample; where even the smallest do not fit for all, later seeds go without, and the page shows their files instead.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, features

from rewards.files import read_regular, sha256_of
from rewards.images import IMAGE_BYTES, Unreadable, decode

FORMAT = "WEBP" if features.check("webp") else "JPEG"
# Longest side in pixels, and the encoder's quality; from the best to the least that still shows what is in a picture.
LADDER = ((320, 80), (256, 75), (224, 70), (192, 65), (160, 60), (128, 55), (112, 48), (96, 42), (80, 36), (64, 30))
SAMPLE = 24
# The sample may happen to be easier to encode than the rest.
SPARE = 1.1
AT_ONCE = 64


@dataclass(frozen=True)
class Job:
    """One image to shrink; `sha256` is the file's when it was scored, or empty where nobody knows."""

    run: int
    cell: int
    seed: int
    path: Path
    sha256: str


@dataclass(frozen=True)
class Plan:
    """How large thumbnails are, and which images get one; `left_out` are the seeds that do not (all of) fit."""

    side: int
    quality: int
    jobs: tuple[Job, ...]
    left_out: tuple[int, ...]


@dataclass(frozen=True)
class Thumbnail:
    """Base64 text of one small picture (empty where there is none), the image's own size, and what is wrong with it."""

    text: bytes
    width: int = 0
    height: int = 0
    problem: str = ""


def plan(jobs: Sequence[Job], budget: int) -> Plan:
    """The largest thumbnails with which all `jobs` fit into `budget` characters; else the smallest, for fewer seeds."""
    ordered = sorted(jobs, key=lambda job: (job.seed, job.cell, job.run))
    sample = ordered[:: max(1, len(ordered) // SAMPLE)][:SAMPLE]
    side, quality = LADDER[-1]
    cost = 0.0
    for side, quality in LADDER:
        sizes = [len(shrink(job, side, quality).text) for job in sample]
        cost = SPARE * sum(sizes) / max(1, len(sizes))
        if cost * len(ordered) <= budget:
            return Plan(side, quality, tuple(ordered), ())
    kept = ordered[: int(max(budget, 0) / cost)]
    seeds = sorted({job.seed for job in ordered})
    whole = [seed for seed in seeds if not kept or seed < kept[-1].seed or len(kept) == len(ordered)]
    whole = whole if kept else []
    # A first seed that does not fit as a whole is better than nothing; of later ones only whole ones are kept.
    kept = [job for job in kept if job.seed in whole] if whole else kept
    return Plan(side, quality, tuple(kept), tuple(seed for seed in seeds if seed not in whole))


def shrink_all(plan: Plan) -> Iterator[tuple[Job, Thumbnail]]:
    """The thumbnails in the plan's order, some at a time, so that memory does not grow with their number."""
    work = partial(shrink, side=plan.side, quality=plan.quality)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(plan.jobs), AT_ONCE):
            jobs = plan.jobs[start : start + AT_ONCE]
            yield from zip(jobs, pool.map(work, jobs), strict=True)


def shrink(job: Job, side: int, quality: int) -> Thumbnail:
    """One picture at most `side` pixels wide and high, never enlarged."""
    try:
        data = read_regular(job.path, IMAGE_BYTES)
    except FileNotFoundError:
        return Thumbnail(b"", problem="the image file is not there any more")
    except OSError as error:
        return Thumbnail(b"", problem=f"the image file cannot be read ({error.strerror})")
    changed = job.sha256 != "" and sha256_of(data) != job.sha256
    try:
        small = decode(data).convert("RGB")
    except Unreadable as error:
        return Thumbnail(b"", problem=str(error))
    width, height = small.size
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, format=FORMAT, quality=quality)
    problem = "this file is not the one that was scored: it has changed since" if changed else ""
    return Thumbnail(base64.b64encode(file.getvalue()), width, height, problem)
