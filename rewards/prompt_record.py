"""Fingerprints of training prompts, which a run folder keeps (`prompts.sha256`) so that others can tell what was seen.

For each distinct prompt the first 16 hex digits of the SHA-256 of its normalised text, sorted, one per line. Nobody's
prompts are copied, and the question stays answerable when the prompt file is gone.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from rewards.files import replace_file, sha256_of

PROMPTS_FILE = "prompts.sha256"
DIGITS = 16


def normalise(text: str) -> str:
    """A prompt as it is compared: Unicode form, case, runs of white space and a final full stop do not count.

    >>> normalise("  A red\\tCar. ")
    'a red car'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".").rstrip()


def fingerprint(text: str) -> str:
    return sha256_of(normalise(text).encode("utf-8", errors="replace"))[:DIGITS]


def write_training_prompts(run: Path, texts: Iterable[str]) -> None:
    """Leave the fingerprints of what a run trains on in its folder; those of its earlier parts stay."""
    path = run / PROMPTS_FILE
    before = read_fingerprints(path) if path.is_file() else set()
    lines = sorted(before | {fingerprint(text) for text in set(texts)})
    replace_file(path, "".join(f"{line}\n" for line in lines).encode())


def read_fingerprints(path: Path) -> set[str]:
    """What `write_training_prompts` left in a file."""
    return set(path.read_text(encoding="utf-8").split())
