"""What `dgpo rewards check` tells of GenEval: its rules and prompts, and whether its detector sees anything."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rewards.errors import SetupError
from rewards.finding import Finding
from rewards.geneval.detection_cache import DetectionCache
from rewards.geneval.prompts import METADATA_SHA256, official_prompts
from rewards.geneval.self_test import DRAWING, find_pictures, show_pictures
from rewards.geneval.worked_cases import work_through


def check_rules(key: str) -> list[Finding]:
    """What of GenEval needs no weights."""
    return [_attempt(key, "rules", work_through), _attempt(key, "prompts", _draw_prompts)]


def check_detector(key: str, detector: DetectionCache, folder: Path | None) -> Finding:
    """Whether the detector sees anything; that it sees what is there cannot be shown here.

    Args:
        folder: photographs; without them the pictures are drawn.
    """
    try:
        pictures = find_pictures(folder)
    except SetupError as error:
        return Finding(key, "detector", "lacking", str(error))
    seen = dict(show_pictures(detector, pictures))
    count = sum(map(bool, seen.values()))
    words = f"it finds something in {count} of {len(seen)} pictures"
    if folder is None:
        right = sum(name.removeprefix(DRAWING) in found for name, found in seen.items())
        words += f", and what is drawn in {right}; it has learnt from photographs, so try it on some: --pictures DIR"
    return Finding(key, "detector", "ok" if count else "failed", f"{words} ({_list_sightings(seen)})")


def _attempt(key: str, what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(key, what, "ok", attempt())
    except SetupError as error:
        return Finding(key, what, "failed", str(error))


def _draw_prompts() -> str:
    return f"{len(official_prompts())} are drawn as published: sha256 {METADATA_SHA256}"


def _list_sightings(seen: Mapping[str, Mapping[str, float]]) -> str:
    lines = []
    for name, found in seen.items():
        best = sorted(found, key=lambda what: found[what], reverse=True)[:3]
        lines.append(f"{name}: {', '.join(f'{what} {found[what]:.2f}' for what in best) or 'nothing'}")
    return "; ".join(lines)
