"""Did a model see a suite's prompts in training? Answered from the fingerprints that a training run leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rewards.errors import UsageError
from rewards.prompt import read_prompts
from rewards.prompt_record import PROMPTS_FILE, fingerprint, read_fingerprints
from rewards.run_record import RECORD_FILE, TRAINING, read_run_record


def read_training_prompts(run: Path) -> set[str] | None:
    """Fingerprints of what a run trained on: its own record, else its prompt file if that is still there, else None."""
    if (run / PROMPTS_FILE).is_file():
        return read_fingerprints(run / PROMPTS_FILE)
    try:
        source = read_run_record(run / RECORD_FILE, TRAINING)["prompts"]["source"]
        if not Path(source).is_file():
            return None
        return {fingerprint(prompt.text) for prompt in read_prompts(Path(source))}
    except (OSError, KeyError, TypeError, ValueError, UsageError):
        return None


def seen_in_training(texts: Iterable[str], training: set[str]) -> list[str]:
    """Those of these prompts that were trained on, each once, in their order."""
    return [text for text in dict.fromkeys(texts) if fingerprint(text) in training]
