"""Which images are to be scored, and under which prompts: folders, lists, tables, tars, single files.

A folder stands for its metadata.csv (or metadata.jsonl, see `metadata`) where it has one, else for the image files in
it (not in its subfolders), else for its tables and tars, each by name. A file may stand in several rows. A prompt comes
from there, or from a file's name (PROMPTID_SEED, looked up in a prompt file), or is one text for all. What a prompt's
spec holds (objects to be counted, say) is in the prompt file, where rows find it by their text.

Only names and prompts are read here; an entry says how its image's bytes are had (`entry.image`, see `stored`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import basename

from benchmarks.harness.metadata import METADATA_FILES, PromptsByText, is_seed, parse_metadata, read_metadata
from benchmarks.harness.parquet import IMAGE, PROMPT, list_table
from benchmarks.harness.places import (
    ending,
    exists,
    folder_of,
    full_name,
    is_folder,
    is_url,
    list_folder,
    read_file,
)
from benchmarks.harness.stored import Lost, Stored, Told, file_image, image_beside
from benchmarks.harness.tars import list_tar
from rewards.errors import UsageError
from rewards.images import FORMATS, image_endings
from rewards.prompt import Prompt
from rewards.tables import TEXT_BYTES, decode, settle

LISTS, TABLE, TAR = (".csv", ".jsonl"), ".parquet", ".tar"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image under one prompt (None where there is none); `run` is the name of the folder of its source.

    With its image it can be pickled, and scored in another process.
    """

    image: Stored
    run: str
    prompt: Prompt | None
    seed: int

    @property
    def lost(self) -> bool:
        """Whether it was found out in listing that this cannot be read; it is scored to a failed row."""
        return isinstance(self.image.holder, Lost)


def list_images(sources: Sequence[Path | str], prompts: Sequence[Prompt] = (), text: str | None = None) -> list[Entry]:
    """Every image of the sources under each of its prompts.

    Args:
        sources: paths or URLs of folders, image files, .csv and .jsonl files like metadata.csv, .parquet tables and
            .tar archives.
        prompts: those that names like PROMPTID_SEED.png and texts in metadata.csv refer to.
        text: one prompt for all.

    A file that is not there is an entry like any other; so is a table or a tar that cannot be read. Images without a
    seed of their own are numbered from 0, prompt by prompt, in their order.

    Raises:
        UsageError: a source that is nothing of these, a folder without images, a metadata.csv or a table that is not as
            it should be, two images of the same prompt and seed in one folder.
        SetupError: a package that reads a source is not installed.
    """
    if text is not None and prompts:
        raise UsageError("Give either --prompts, a file of prompts, or --prompt, one text for all images.")
    known = _Known(prompts, text)
    return _number(found for source in sources for found in _expand(full_name(str(source)), known))


def group_by_image(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries of each image, images in the order in which they first appear; scores are written in it."""
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.image.name, []).append(entry)
    return list(by_name.values())


@dataclass(frozen=True, slots=True)
class _Found:
    """An image on the way to its number within `folder`; `where` it was found is for errors."""

    image: Stored
    folder: str
    prompt: Prompt | None
    seed: int | None
    where: str


class _Known:
    """The prompts of this call, by id and by text."""

    def __init__(self, prompts: Sequence[Prompt], text: str | None) -> None:
        self.for_all = None if text is None else Prompt(settle(text))
        self.by_id = {prompt.id: prompt for prompt in prompts}
        self.by_text = PromptsByText(self.by_id.values())
        self.made: dict[str, Prompt] = {}

    def of_name(self, name: str) -> tuple[Prompt | None, int | None]:
        """Prompt and seed that a file's name tells."""
        if self.for_all is not None:
            return self.for_all, None
        if not self.by_id:
            return None, None
        prompt_id, _, seed = PurePosixPath(name).stem.rpartition("_")
        if prompt_id in self.by_id and is_seed(seed):
            return self.by_id[prompt_id], int(seed)
        return None, None

    def of_text(self, text: str, prompt_id: str = "") -> list[Prompt]:
        """The prompts of that text, which differ in their specs (of these the one with that id, if it is among them);
        the bare text where the prompt file has none."""
        found = self.by_text.find(text)
        if not found:
            if text not in self.made:
                self.made[text] = Prompt(settle(text))
            return [self.made[text]]
        return [prompt for prompt in found if prompt.id == prompt_id] or found


def _expand(source: str, known: _Known) -> Iterator[_Found]:
    kind = ending(source)
    known_kind = kind in (*LISTS, TABLE, TAR, *image_endings())
    # Some servers (https) tell a folder from a file by sending all of it.
    if not (is_url(source) and known_kind and source[-1] != "/") and is_folder(source):
        yield from _expand_folder(source, known)
    elif kind in LISTS:
        yield from _settle(_rows_of(source), source, known)
    elif kind == TABLE:
        needed = (IMAGE, PROMPT) if known.for_all is None else (IMAGE,)
        yield from _settle(list_table(source, needed), source, known)
    elif kind == TAR:
        yield from _settle(list_tar(source), source, known)
    elif known_kind or exists(source):
        yield _named(source, known)
    else:
        raise UsageError(
            f"{source}: there is no such folder or image; give a folder of images, image files, a list (.csv, .jsonl), "
            "a table (.parquet) or a tar."
        )


def _expand_folder(folder: str, known: _Known) -> Iterator[_Found]:
    names = [name for name in list_folder(folder) if PurePosixPath(name).name[0] != "."]
    listed = [name for name in names if PurePosixPath(name).name in METADATA_FILES]
    images = [name for name in names if ending(name) in image_endings()]
    if listed:
        yield from _expand(min(listed, key=lambda name: METADATA_FILES.index(PurePosixPath(name).name)), known)
    elif images:
        yield from (_named(name, known) for name in images)
    elif holders := [name for name in names if ending(name) in (TABLE, TAR)]:
        for name in holders:
            yield from _expand(name, known)
    else:
        formats = ", ".join(FORMATS)
        raise UsageError(
            f"{folder} holds no image ({formats}), no .parquet and no .tar; its subfolders are not searched."
        )


def _named(name: str, known: _Known) -> _Found:
    prompt, seed = known.of_name(name)
    return _Found(file_image(name), folder_of(name), prompt, seed, name)


def _rows_of(source: str) -> Iterator[Told]:
    """The rows of a metadata file."""
    if is_url(source):
        try:
            rows = parse_metadata(source, decode(source, read_file(source, TEXT_BYTES)))
        except OSError as error:
            raise UsageError(f"{source}: cannot be read ({error.strerror or error}).") from error
    else:
        rows = read_metadata(Path(source))
    for row in rows:
        yield Told(image_beside(source, row.file_name), row.prompt, row.seed, where=row.where)


def _settle(rows: Iterable[Told], source: str, known: _Known) -> Iterator[_Found]:
    """The rows of a list, a table or a tar under the prompts of this call."""
    folder = folder_of(source)
    for row in rows:
        if isinstance(row.image.holder, Lost):
            yield _Found(row.image, folder, None, None, row.where)
            continue
        if row.prompt and known.for_all is not None:
            raise UsageError(f"{row.where}: this image has a prompt already; leave --prompt out.")
        by_name, named_seed = known.of_name(row.image.name)
        seed = named_seed if row.seed is None else row.seed
        for one in known.of_text(row.prompt, row.prompt_id) if row.prompt else [by_name]:
            yield _Found(row.image, folder, one, seed, row.where)


def _number(found: Iterable[_Found]) -> list[Entry]:
    """Entries with a seed each; what is found twice counts once."""
    taken: dict[tuple[str, Prompt | None, int], str] = {}
    counts: Counter[tuple[str, Prompt | None]] = Counter()
    entries = []
    for one in {(one.image.name, one.prompt, one.seed): one for one in found}.values():
        group = one.folder, one.prompt
        run = basename(one.folder)
        if isinstance(one.image.holder, Lost):
            entries.append(Entry(one.image, run, None, 0))
            continue
        seed = counts[group] if one.seed is None else one.seed
        counts[group] += 1
        first = taken.setdefault((*group, seed), one.where)
        if first != one.where:
            text = "" if one.prompt is None else f' of the prompt "{one.prompt.text}"'
            raise UsageError(f"{one.where}: seed {seed}{text} is already the image of {first}.")
        entries.append(Entry(one.image, run, one.prompt, seed))
    return entries
