"""Which images are to be scored, and under which prompts: folders, their metadata files, single files.

A folder stands for its metadata.csv (or metadata.jsonl, see `metadata`) where it has one, else for the image files in
it (not in its subfolders), by name. A file may stand in several rows. A prompt comes from there, or from a file's name
(PROMPTID_SEED, looked up in a prompt file), or is one text for all. What a prompt's spec holds (objects to be counted,
say) is in the prompt file, where rows find it by their text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.metadata import PromptsByText, find_metadata, read_metadata
from rewards.errors import UsageError
from rewards.images import FORMATS, image_endings
from rewards.prompt import Prompt
from rewards.tables import settle


@dataclass(frozen=True)
class Entry:
    """One image under one prompt (None where there is none); `run` is the name of its folder."""

    path: Path
    run: str
    prompt: Prompt | None
    seed: int


def list_images(sources: Sequence[Path], prompts: Sequence[Prompt] = (), text: str | None = None) -> list[Entry]:
    """Every image of the sources under each of its prompts.

    Args:
        sources: folders, image files, or .csv and .jsonl files like metadata.csv.
        prompts: those that names like PROMPTID_SEED.png and texts in metadata.csv refer to.
        text: one prompt for all.

    A file that is not there is an entry like any other. Images without a seed of their own are numbered from 0, prompt
    by prompt, in their order.

    Raises:
        UsageError: a source that is nothing of these, a folder without images, a metadata.csv that is not as it should
            be, two images of the same prompt and seed in one folder.
    """
    if text is not None and prompts:
        raise UsageError("Give either --prompts, a file of prompts, or --prompt, one text for all images.")
    known = _Known(prompts, text)
    return _number(found for source in sources for found in _expand(source, known))


@dataclass(frozen=True)
class _Found:
    """An image on the way to its number within `folder`; `where` it was found is for errors."""

    path: Path
    folder: Path
    prompt: Prompt | None
    seed: int | None
    where: str


class _Known:
    """The prompts of this call, by id and by text."""

    def __init__(self, prompts: Sequence[Prompt], text: str | None) -> None:
        self.for_all = None if text is None else Prompt(settle(text))
        self.by_id = {prompt.id: prompt for prompt in prompts}
        self.by_text = PromptsByText(self.by_id.values())

    def of_name(self, path: Path) -> tuple[Prompt | None, int | None]:
        """Prompt and seed that a file's name tells."""
        if self.for_all is not None:
            return self.for_all, None
        prompt_id, _, seed = path.stem.rpartition("_")
        if prompt_id in self.by_id and seed.isdecimal():
            return self.by_id[prompt_id], int(seed)
        return None, None

    def of_text(self, text: str) -> list[Prompt]:
        """The prompts of that text, which differ in their specs; the bare text where the prompt file has none."""
        return self.by_text.find(text) or [Prompt(settle(text))]


def _expand(source: Path, known: _Known) -> Iterator[_Found]:
    if source.is_dir():
        listed = find_metadata(source)
        yield from _rows_of(listed, known) if listed is not None else _files_of(source, known)
    elif source.suffix.lower() in (".csv", ".jsonl"):
        yield from _rows_of(source, known)
    elif source.is_file() or source.suffix.lower() in image_endings():
        yield _named(source, known)
    else:
        raise UsageError(f"{source}: there is no such folder or image; give a folder of images, or image files.")


def _files_of(folder: Path, known: _Known) -> Iterator[_Found]:
    endings = image_endings()
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings and path.name[0] != "."]
    if not paths:
        raise UsageError(f"{folder} holds no image ({', '.join(FORMATS)}; its subfolders are not searched).")
    for path in paths:
        yield _named(path, known)


def _named(path: Path, known: _Known) -> _Found:
    prompt, seed = known.of_name(path)
    return _Found(path, path.absolute().parent, prompt, seed, str(path))


def _rows_of(table: Path, known: _Known) -> Iterator[_Found]:
    """The rows of a metadata file."""
    for row in read_metadata(table):
        if row.prompt and known.for_all is not None:
            raise UsageError(f"{row.where}: this image has a prompt already; leave --prompt out.")
        by_name, named_seed = known.of_name(row.path)
        for one in known.of_text(row.prompt) if row.prompt else [by_name]:
            yield _Found(
                row.path, table.absolute().parent, one, named_seed if row.seed is None else row.seed, row.where
            )


def _number(found: Iterable[_Found]) -> list[Entry]:
    """Entries with a seed each; what is found twice counts once."""
    taken: dict[tuple[Path, Prompt | None, int], str] = {}
    counts: Counter[tuple[Path, Prompt | None]] = Counter()
    entries = []
    for one in {(one.path, one.prompt, one.seed): one for one in found}.values():
        group = one.folder, one.prompt
        seed = counts[group] if one.seed is None else one.seed
        counts[group] += 1
        first = taken.setdefault((*group, seed), one.where)
        if first != one.where:
            text = "" if one.prompt is None else f' of the prompt "{one.prompt.text}"'
            raise UsageError(f"{one.where}: seed {seed}{text} is already the image of {first}.")
        entries.append(Entry(one.path, one.folder.name, one.prompt, seed))
    return entries
