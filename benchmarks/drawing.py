"""How the images of a results folder were drawn: the sampler's settings and, among them (`dtype`), the precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names of precisions as folders of other families than SD3 once had them.
EARLIER_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def precision_of(record: Mapping[str, Any]) -> str | None:
    """In which precision the images were drawn; None where nobody recorded it, as in older folders."""
    dtype = (record.get("sampler") or {}).get("dtype")
    return None if dtype is None else EARLIER_NAMES.get(dtype, dtype)


def settings_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The sampler's settings besides the precision; None where nobody recorded them, as of foreign images."""
    sampler = record.get("sampler")
    return None if sampler is None else {name: value for name, value in sampler.items() if name != "dtype"}


def drawn_otherwise(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Settings in which two folders' images differ, as "steps 10 and 40"; what one did not record counts as alike."""
    theirs, ours = settings_of(there), settings_of(here)
    if theirs is None or ours is None:
        return []
    known = precision_of(there) and precision_of(here)
    pairs = {name: (theirs.get(name), ours.get(name)) for name in sorted({*theirs, *ours})}
    pairs |= {"dtype": (precision_of(there), precision_of(here))} if known else {}
    return [f"{name} {one} and {other}" for name, (one, other) in pairs.items() if one != other]
