"""How the images of a results folder were drawn: the sampler's settings and, among them (`dtype`), the precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.images import IMAGES_FOLDER
from rewards.images import read_image

# Names of precisions as folders of other families than SD3 once had them.
EARLIER_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
SIDES = ("height", "width")


def precision_of(record: Mapping[str, Any]) -> str | None:
    """In which precision the images were drawn; None where nobody recorded it, as in older folders."""
    dtype = (record.get("sampler") or {}).get("dtype")
    return None if dtype is None else EARLIER_NAMES.get(dtype, dtype)


def settings_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The sampler's settings besides the precision; None where nobody recorded them, as of foreign images."""
    sampler = record.get("sampler")
    return None if sampler is None else {name: value for name, value in sampler.items() if name != "dtype"}


def with_drawn_size(folder: Path, record: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The record with the pixels of the folder's images where it only says that the model chose them (null).

    Older records do, and those of models that settle their size while they draw. Beside another record, null stays null
    where that one has it too; and where nothing was drawn yet, the other's pixels are taken.
    """
    sampler = record.get("sampler") or {}
    other = None if beside is None else beside.get("sampler") or {}
    unknown = [
        name
        for name in SIDES
        if name in sampler and sampler[name] is None and (other is None or other.get(name) is not None)
    ]
    if not unknown:
        return dict(record)
    drawn = _size_of_images(folder) or other or {}
    return {**record, "sampler": {**sampler, **{name: drawn.get(name) for name in unknown}}}


def drawn_otherwise(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Settings in which two folders' images differ, as "steps 10 and 40"; what one did not record counts as alike."""
    theirs, ours = settings_of(there), settings_of(here)
    if theirs is None or ours is None:
        return []
    known = precision_of(there) and precision_of(here)
    pairs = {name: (theirs.get(name), ours.get(name)) for name in sorted({*theirs, *ours})}
    pairs |= {"dtype": (precision_of(there), precision_of(here))} if known else {}
    unknown = {name for name in SIDES if name in pairs and None in pairs[name] and name in theirs and name in ours}
    return [f"{name} {one} and {other}" for name, (one, other) in pairs.items() if one != other and name not in unknown]


def _size_of_images(folder: Path) -> dict[str, int] | None:
    """Of the first image that can be read: a folder's images are all drawn alike."""
    found = (read_image(path).image for path in sorted((folder / IMAGES_FOLDER).glob("*.png")))
    image = next((image for image in found if image is not None), None)
    return None if image is None else {"height": image.height, "width": image.width}
