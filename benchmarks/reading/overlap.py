"""Did a model see a suite's prompts in training? Answered from fingerprints that a training run leaves behind.

A run folder holds prompts.sha256: for each distinct training prompt the first 16 hex digits of the SHA-256 of its
normalised text, sorted, one a line. Nobody's prompts are copied, and the question stays answerable when the prompt file
is gone.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from rewards.errors import UsageError
from rewards.files import read_json, replace_file
from rewards.prompt import read_prompts

PROMPTS_FILE = "prompts.sha256"
DIGITS = 16


def normalise(text: str) -> str:
    """A prompt as it is compared: Unicode form, case, runs of white space and a final full stop do not count.

    >>> normalise("  A red\\tCar. ")
    'a red car'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".").rstrip()


def fingerprint(text: str) -> str:
    return hashlib.sha256(normalise(text).encode("utf-8", errors="replace")).hexdigest()[:DIGITS]


def write_training_prompts(run: Path, texts: Iterable[str]) -> None:
    """Leave the fingerprints of what a run trains on in its folder; those of its earlier parts stay."""
    path = run / PROMPTS_FILE
    before = _read(path) if path.is_file() else set()
    lines = sorted(before | {fingerprint(text) for text in set(texts)})
    replace_file(path, "".join(f"{line}\n" for line in lines).encode())


def read_training_prompts(run: Path) -> set[str] | None:
    """Fingerprints of what a run trained on: its own record, else its prompt file if that is still there, else None."""
    if (run / PROMPTS_FILE).is_file():
        return _read(run / PROMPTS_FILE)
    try:
        source = read_json(run / "run.json")["prompts"]["source"]
        if not Path(source).is_file():
            return None
        return {fingerprint(prompt.text) for prompt in read_prompts(Path(source))}
    except (OSError, KeyError, TypeError, ValueError, UsageError):
        return None


def seen_in_training(texts: Iterable[str], training: set[str]) -> list[str]:
    """Those of these prompts that were trained on, each once, in their order."""
    return [text for text in dict.fromkeys(texts) if fingerprint(text) in training]


def _read(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split())
