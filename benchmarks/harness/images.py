"""Where the images of an evaluation come from: drawn by a model, or found in a folder that somebody else made.

Either way the file on disk is what gets scored: a drawn image is written as PNG and read back, so that the score
belongs to the picture a reader can look at. A cell is one prompt with one seed, and so one image.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from benchmarks.harness.metadata import PromptsByText, find_metadata, read_metadata
from benchmarks.harness.prompt_folders import has_samples, list_samples, sample_path
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.files import replace_file
from rewards.images import ImageFile, read_image
from rewards.prompt import Prompt

IMAGES_FOLDER = "images"

CellKey = tuple[str, int]


@dataclass(frozen=True)
class Cell:
    """One image to be: starting noise is a function of the prompt's id and the seed alone."""

    prompt: Prompt
    seed: int

    @property
    def key(self) -> CellKey:
        return self.prompt.id, self.seed

    @property
    def file_name(self) -> str:
        return f"{self.prompt.id}_{self.seed}.png"


# One image a cell, in order, or in words why the model could make none, which becomes a failed row.
Draw = Callable[[Sequence[Cell]], Sequence[Image.Image | str]]


@dataclass(frozen=True)
class Picture:
    """The image of one cell: its name in scores.csv, and what its file holds."""

    cell: Cell
    name: str
    file: ImageFile


class ImageSource(Protocol):
    """Gives the image files of a block of cells, drawing those that are not there if it can."""

    def fetch(self, cells: Sequence[Cell], scored_sha: Mapping[CellKey, Collection[str]]) -> list[Picture]: ...


class DrawnImages:
    """Images drawn into FOLDER/images; those of which a score tells the hash are kept, all others drawn again.

    A block is drawn as a whole even if only some of its images are wanted: a model's arithmetic may round otherwise in
    a smaller batch, and an image must not depend on what was there before.
    """

    def __init__(self, folder: Path, draw: Draw, note: Callable[[str], None]) -> None:
        self.folder = folder / IMAGES_FOLDER
        self.draw = draw
        self.note = note

    def fetch(self, cells: Sequence[Cell], scored_sha: Mapping[CellKey, Collection[str]]) -> list[Picture]:
        """The pictures of one block. `scored_sha` holds the hashes of the images that have rows already."""
        pictures = {cell: self._kept(cell, scored_sha.get(cell.key, ())) for cell in cells}
        if None in pictures.values():
            images = self.draw(cells)
            if len(images) != len(cells):
                raise ValueError(f"the model was asked for {len(cells)} images and gave {len(images)}")
            for cell, image in zip(cells, images, strict=True):
                if pictures[cell] is None:
                    pictures[cell] = self._written(cell, image)
        return [picture for picture in pictures.values() if picture is not None]

    def _kept(self, cell: Cell, scored_sha: Collection[str]) -> Picture | None:
        path = self.folder / cell.file_name
        if not path.exists():
            return None
        picture = Picture(cell, f"{IMAGES_FOLDER}/{cell.file_name}", read_image(path))
        if picture.file.problem:
            self.note(f"{path}: {picture.file.problem}; it is drawn again.")
            return None
        if scored_sha and picture.file.sha256 not in scored_sha:
            self.note(f"{path} is not the image that was scored (its SHA-256 changed); it is drawn again.")
        return picture if picture.file.sha256 in scored_sha else None

    def _written(self, cell: Cell, image: Image.Image | str) -> Picture:
        path = self.folder / cell.file_name
        name = f"{IMAGES_FOLDER}/{cell.file_name}"
        if isinstance(image, str):
            path.unlink(missing_ok=True)
            return Picture(cell, name, ImageFile("", None, f"the model made no image: {image}"))
        self.folder.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        image.save(data, format="PNG")
        replace_file(path, data.getvalue())
        return Picture(cell, name, read_image(path))


class FoundImages:
    """Images of a folder made elsewhere, in one of three layouts.

    Named PROMPTID_SEED.png; or listed in metadata.csv or metadata.jsonl (file_name,prompt[,seed]), where the images of
    one prompt are numbered from 0 in the order of its rows if it has no seeds; or in one folder a prompt, see
    `prompt_folders`.
    """

    def __init__(self, folder: Path, suite: Suite, note: Callable[[str], None] = lambda _: None) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder of images.")
        self.folder = folder
        self.folders: dict[str, Path] = {}
        listed = find_metadata(folder)
        if listed is not None:
            self.paths, strangers = self._listed(suite, listed)
        elif has_samples(folder):
            self.paths, strangers = self._sampled(suite)
        else:
            self.paths, strangers = self._named(suite)
        if not self.paths:
            raise UsageError(
                f"No image in {folder} belongs to the suite {suite.name}: expected files named PROMPTID_SEED.png, or a"
                " metadata.csv with the columns file_name,prompt[,seed] and the suite's prompts word for word, or"
                " folders like 00000 with samples/0000.png and a metadata.jsonl that holds the prompt's whole record."
            )
        if strangers:
            note(f"{folder}: {strangers} images belong to no prompt of the suite {suite.name} and are not scored.")

    @property
    def seeds(self) -> list[int]:
        """Every seed for which at least one image was found."""
        return sorted({seed for _, seed in self.paths})

    def fetch(self, cells: Sequence[Cell], scored_sha: Mapping[CellKey, Collection[str]]) -> list[Picture]:
        """The pictures of one block; `scored_sha` is not needed, since these images cannot be made again."""
        return [self._found(cell) for cell in cells]

    def _found(self, cell: Cell) -> Picture:
        path = self.paths.get(cell.key) or self._place(cell)
        return Picture(cell, os.path.realpath(path), read_image(path))

    def _place(self, cell: Cell) -> Path:
        """Where the image of a cell would have been found."""
        if cell.prompt.id in self.folders:
            return sample_path(self.folders[cell.prompt.id], cell.seed)
        return self.folder / cell.file_name

    def _named(self, suite: Suite) -> tuple[dict[CellKey, Path], int]:
        known = {prompt.id for prompt in suite.prompts}
        paths, strangers = {}, 0
        for path in sorted(self.folder.glob("*.png")):
            prompt_id, _, seed = path.stem.rpartition("_")
            if prompt_id in known and seed.isdecimal():
                paths[prompt_id, int(seed)] = path
            else:
                strangers += 1
        return paths, strangers

    def _listed(self, suite: Suite, metadata: Path) -> tuple[dict[CellKey, Path], int]:
        by_text = PromptsByText(suite.prompts)
        paths: dict[CellKey, Path] = {}
        counts: Counter[str] = Counter()
        strangers = 0
        for row in read_metadata(metadata, ("file_name", "prompt")):
            prompts = by_text.find(row.prompt)
            strangers += not prompts
            for prompt in prompts:
                key = prompt.id, counts[prompt.id] if row.seed is None else row.seed
                counts[prompt.id] += 1
                if key in paths:
                    raise UsageError(f'{row.where}: the prompt "{row.prompt}" has two images of seed {key[1]}.')
                paths[key] = metadata.parent / row.file_name
        return paths, strangers

    def _sampled(self, suite: Suite) -> tuple[dict[CellKey, Path], int]:
        known = {prompt.id for prompt in suite.prompts}
        paths: dict[CellKey, Path] = {}
        strangers = 0
        for found in list_samples(self.folder):
            prompt_id = found.prompt.id
            if prompt_id not in known:
                strangers += len(found.samples) + found.others
                continue
            self.folders[prompt_id] = found.folder
            strangers += found.others
            for seed, path in found.samples.items():
                first = paths.setdefault((prompt_id, seed), path)
                if first != path:
                    raise UsageError(
                        f'{first} and {path} are both sample {seed} of the prompt "{found.prompt.text}"; put all of a'
                        " prompt's samples into one folder, each with a number of its own."
                    )
        return paths, strangers


def cells_of(suite: Suite, seeds: Iterable[int]) -> list[list[Cell]]:
    """The cells of a suite, one list a seed: more seeds later add lists and change none."""
    return [[Cell(prompt, seed) for prompt in suite.prompts] for seed in seeds]
