"""Figures of a results folder's images that no reward reports: how dark, how bare, how colourful, how alike.

None of them is a quality. They show what a rising reward may have cost: pictures that went dark, that lost their
detail, or that are all the same.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness.images import CellKey
from benchmarks.harness.store import Row, read_rows
from benchmarks.reading.stats import prompt_means
from rewards.errors import ScoringError
from rewards.files import read_regular, replace_file, sha256_of
from rewards.images import IMAGE_BYTES, decode
from rewards.imagestats.reward import colour_entropy, dark_share, edge_density, rgb_pixels

FIGURES = {
    "dark": "share of dark pixels",
    "edges": "edge density",
    "colours": "colour entropy in bits",
    "near_duplicates": "share of near-identical pairs among the images of one prompt",
    "diversity": "mean distance of two images of one prompt, 0 to 1",
}
BETWEEN_SEEDS = ("near_duplicates", "diversity")
NEAR = 4
HASH_BITS = 64
CACHE_FILE = "pictures.csv"


@dataclass(frozen=True)
class Seen:
    """What was seen of one image: the three of `rewards.imagestats`, and `difference_hash`."""

    image_sha: str
    dark: float
    edges: float
    colours: float
    dhash: int


def difference_hash(image: Image.Image) -> int:
    """64 bits that two pictures share if they look alike, whatever their size and brightness.

    The image as grey is averaged down to 9 x 8 pixels (PIL's BOX filter); each bit says whether a pixel is brighter
    than its left neighbour, row by row. (Krawetz 2013, "Kind of like that".)
    """
    small = np.asarray(image.convert("RGB").convert("L").resize((9, 8), Image.Resampling.BOX))
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def distance(one: int, other: int) -> int:
    """Bits in which two hashes differ, 0 to 64; up to NEAR the images count as near-identical.

    >>> distance(0b1100, 0b1010)
    2
    """
    return (one ^ other).bit_count()


def look(data: bytes) -> Seen:
    """See one image file; Unreadable if it is none."""
    pixels = rgb_pixels(decode(data))
    image_sha = sha256_of(data)
    dhash = difference_hash(Image.fromarray(pixels))
    return Seen(image_sha, dark_share(pixels), edge_density(pixels), colour_entropy(pixels), dhash)


def look_through(folder: Path) -> tuple[dict[CellKey, Seen], dict[CellKey, str]]:
    """Each image of a results folder as it was seen, and why those that are absent here could not be.

    A file whose content is not what was scored is not looked at. What was seen is kept in pictures.csv by the hash of
    the image, so that the next look costs nothing.
    """
    kept = _read_cache(folder / CACHE_FILE)
    rows = _images(read_rows(folder))
    new = {row.image_sha: folder / row.image for row in rows.values() if row.image_sha and row.image_sha not in kept}
    unseen: dict[str, str] = {}
    with ThreadPoolExecutor() as threads:  # decoding and numpy leave the interpreter to the others
        for image_sha, found in zip(new, threads.map(_look_at, new.values(), new), strict=True):
            if isinstance(found, Seen):
                kept[image_sha] = found
            else:
                unseen[image_sha] = found
    seen = {cell: kept[row.image_sha] for cell, row in rows.items() if row.image_sha in kept}
    problems = {
        cell: unseen.get(row.image_sha) or row.detail or "there is no image"
        for cell, row in rows.items()
        if cell not in seen
    }
    _write_cache(folder / CACHE_FILE, {one.image_sha: one for one in seen.values()})
    return seen, problems


def by_prompt(seen: Mapping[CellKey, Seen]) -> dict[str, dict[str, float]]:
    """Each figure as one number a prompt; those between seeds only of prompts with two images or more.

    A prompt's `near_duplicates` is the share of its pairs of images at a distance of at most 4 bits; its `diversity` is
    the mean of their distances, divided by 64.
    """
    of_prompt: dict[str, list[Seen]] = {}
    for (prompt_id, _), one in sorted(seen.items()):
        of_prompt.setdefault(prompt_id, []).append(one)
    found: dict[str, dict[str, float]] = {name: {} for name in FIGURES}
    for prompt_id, images in of_prompt.items():
        for name in ("dark", "edges", "colours"):
            found[name][prompt_id] = sum(getattr(one, name) for one in images) / len(images)
        apart = [distance(one.dhash, other.dhash) for one, other in combinations(images, 2)]
        if apart:
            found["near_duplicates"][prompt_id] = sum(bits <= NEAR for bits in apart) / len(apart)
            found["diversity"][prompt_id] = sum(apart) / len(apart) / HASH_BITS
    return found


def measure_pictures(folder: Path) -> dict[str, float | None]:
    """Each figure of a results folder: its mean over the prompts, None where no prompt has it."""
    found = by_prompt(look_through(folder)[0])
    return {
        name: float(prompt_means(list(values.values()), list(values)).mean()) if values else None
        for name, values in found.items()
    }


def _images(rows: Iterable[Row]) -> dict[CellKey, Row]:
    """One row for each image; one that has an image rather than one that has none."""
    found: dict[CellKey, Row] = {}
    for row in rows:
        cell = row.prompt_id, row.seed
        if cell not in found or row.image_sha:
            found[cell] = row
    return found


def _look_at(path: Path, image_sha: str) -> Seen | str:
    """What was seen, or why nothing was."""
    try:
        seen = look(read_regular(path, IMAGE_BYTES))
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    except ScoringError as error:
        return f"{path}: {error}"
    return seen if seen.image_sha == image_sha else f"{path} is not the image that was scored (its SHA-256 changed)"


def _read_cache(path: Path) -> dict[str, Seen]:
    """What is in the file; nothing if it is not a whole file of ours, as all of it can be seen again."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        found = [
            Seen(
                line["image_sha"],
                float(line["dark"]),
                float(line["edges"]),
                float(line["colours"]),
                int(line["dhash"], 16),
            )
            for line in lines
        ]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return {}
    return {one.image_sha: one for one in found}


def _write_cache(path: Path, seen: Mapping[str, Seen]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Seen)])
    for one in sorted(seen.values(), key=lambda one: one.image_sha):
        *numbers, dhash = astuple(one)
        writer.writerow([*numbers, f"{dhash:016x}"])
    data = text.getvalue().encode()
    with contextlib.suppress(OSError):  # results that may only be read are looked at anew each time
        if not path.is_file() or path.read_bytes() != data:
            replace_file(path, data)
