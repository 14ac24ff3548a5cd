"""Images laid out in one folder a prompt, with the prompt's record beside them, as GenEval's own program writes them.

    00000/metadata.jsonl         one record: {"tag": ..., "include": [...], "prompt": ...}
    00000/samples/0000.png       the images, numbered; the number is the seed
    00000/grid.png               not read

Source: generation/diffusers_generate.py of github.com/djghosh13/geneval at af4902f24d3ca90ebbb446dd9891a59e0f82725f,
which numbers with five digits; its README shows four. Any number of digits is read. A prompt is known by its whole
record, since another one may have the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UsageError
from rewards.prompt import Prompt, read_prompts

RECORD_FILE = "metadata.jsonl"
SAMPLES_FOLDER = "samples"
GRID = "grid"


@dataclass(frozen=True)
class PromptFolder:
    """One prompt's images by seed; `others` counts images in its samples folder whose name is no number."""

    folder: Path
    prompt: Prompt
    samples: Mapping[int, Path]
    others: int


def has_samples(folder: Path) -> bool:
    """Whether a folder is laid out so."""
    return any(folder.glob(f"*/{RECORD_FILE}"))


def list_samples(folder: Path) -> Iterator[PromptFolder]:
    """The prompts' folders by name.

    Raises UsageError for a metadata.jsonl that is not exactly one record, and for two files with one number.
    """
    for record in sorted(folder.glob(f"*/{RECORD_FILE}")):
        prompts = read_prompts(record)
        if len(prompts) != 1:
            raise UsageError(f"{record} holds {len(prompts)} records, and each folder is for one prompt.")
        yield _read_folder(record.parent, prompts[0])


def sample_path(folder: Path, seed: int) -> Path:
    """Where the program puts a sample."""
    return folder / SAMPLES_FOLDER / f"{seed:05}.png"


def _read_folder(folder: Path, prompt: Prompt) -> PromptFolder:
    samples: dict[int, Path] = {}
    others = 0
    for path in sorted((folder / SAMPLES_FOLDER).glob("*.png")):
        if not path.stem.isdecimal():
            others += path.stem != GRID
            continue
        first = samples.setdefault(int(path.stem), path)
        if first != path:
            raise UsageError(f"{first} and {path} have the same number; keep one of them.")
    return PromptFolder(folder, prompt, samples, others)
