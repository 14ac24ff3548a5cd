"""A picture of a comparison: the same prompts and the same starting noise under each run, with the scores beneath.

The prompts are the first ones of the suite, never chosen by score, so the picture is a sample and not an advertisement.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from benchmarks.harness.images import CellKey
from benchmarks.harness.store import Row
from benchmarks.reading.results import Results, read_results, shared_rewards
from rewards.errors import UsageError, suggestion
from rewards.files import replace_file
from rewards.images import read_image
from rewards.numbers import format_number

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font = FreeTypeFont | BitmapFont

TILE = 256
MARGIN = 16
TEXT_SIZE = 15
LINE = 20
PAPER, INK, PALE, NOTHING = (255, 255, 255), (20, 20, 20), (110, 110, 110), (225, 225, 225)


def before_after(
    folders: Sequence[Path], path: Path, prompts: int = 8, reward: str | None = None, *, any_sampler: bool = False
) -> Path:
    """Write a PNG with a row per prompt and a column a run; returns its path.

    `reward` is the key (ocr@1) whose scores are shown, by default the first that all runs share. Raises UsageError for
    folders that may not be compared.
    """
    runs = read_results([Path(folder) for folder in folders])
    if not runs or prompts < 1:
        raise UsageError("A picture needs at least one results folder and one prompt.")
    key = _choose_reward(runs, reward, any_sampler)
    cells = _first_cells(runs[0].scores[key], prompts)
    tiles = [[_load_tile(run, run.scores[key][cell]) for run in runs] for cell in cells]
    captions = [runs[0].scores[key][cell].prompt for cell in cells]
    marks = [[_score_text(run.scores[key][cell]) for run in runs] for cell in cells]
    data = io.BytesIO()
    shared = "same prompt, same noise" if all(run.record.get("sampler") for run in runs) else "same prompt"
    title = f"{shared}; scores of {key}"
    _paste_sheet(title, [run.name for run in runs], captions, tiles, marks).save(data, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data.getvalue(), named=True)
    return path


def enlarge(image: Image.Image, size: int = TILE) -> Image.Image:
    """A small image enlarged by a whole factor, pixel by pixel, to at most `size`; a large one reduced to it."""
    longest = max(image.size)
    if longest > size:
        shrunk = image.copy()
        shrunk.thumbnail((size, size), Image.Resampling.LANCZOS)
        return shrunk
    factor = size // longest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _choose_reward(runs: Sequence[Results], reward: str | None, any_sampler: bool) -> str:
    shared = list(runs[0].scores)
    for run in runs[1:]:
        comparable = shared_rewards(runs[0], run, any_sampler=any_sampler)
        shared = [key for key in shared if key in comparable]
    if not shared:
        raise UsageError("These runs have no reward in common, so there is no score to show under their images.")
    if reward is None:
        return shared[0]
    if reward not in shared:
        raise UsageError(f'There are no scores of "{reward}" in all of these folders.{suggestion(reward, shared)}')
    return reward


def _first_cells(rows: dict[CellKey, Row], prompts: int) -> list[CellKey]:
    """The first prompts of the suite, each with its lowest seed; rows stand in the suite's order."""
    first: dict[str, int] = {}
    for prompt_id, seed in rows:
        first[prompt_id] = min(seed, first.get(prompt_id, seed))
    return list(first.items())[:prompts]


def _load_tile(run: Results, row: Row) -> Image.Image:
    """The image as a tile; a grey tile where it is missing or damaged, which the score's text explains."""
    image = read_image(run.folder / row.image).image
    return Image.new("RGB", (TILE, TILE // 2), NOTHING) if image is None else enlarge(image.convert("RGB"))


def _score_text(row: Row) -> str:
    if row.score is None:
        return f"no score: {row.detail}"
    return f"{format_number(row.score)}  {row.detail}".replace("\n", " ").rstrip()


def _paste_sheet(
    title: str,
    names: Sequence[str],
    captions: Sequence[str],
    tiles: Sequence[Sequence[Image.Image]],
    marks: Sequence[Sequence[str]],
) -> Image.Image:
    font = ImageFont.load_default(size=TEXT_SIZE)
    width = MARGIN + len(names) * (TILE + MARGIN)
    wrapped = [_wrap(caption, font, width - 2 * MARGIN) for caption in captions]
    heights = [
        len(lines) * LINE + max(tile.height for tile in row) + LINE + MARGIN
        for lines, row in zip(wrapped, tiles, strict=True)
    ]
    sheet = Image.new("RGB", (width, MARGIN + 2 * LINE + MARGIN + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    lefts = [MARGIN + column * (TILE + MARGIN) for column in range(len(names))]
    _write(pen, (MARGIN, MARGIN), title, font, PALE, width - 2 * MARGIN)
    for left, name in zip(lefts, names, strict=True):
        _write(pen, (left, MARGIN + LINE), name, font, INK, TILE)
    top = MARGIN + 2 * LINE + MARGIN
    for lines, row, texts, height in zip(wrapped, tiles, marks, heights, strict=True):
        for number, line in enumerate(lines):
            _write(pen, (MARGIN, top + number * LINE), line, font, INK, width - 2 * MARGIN)
        under = top + len(lines) * LINE
        for left, tile, text in zip(lefts, row, texts, strict=True):
            sheet.paste(tile, (left, under))
            _write(pen, (left, under + tile.height + 2), text, font, PALE, TILE)
        top += height
    return sheet


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Font, ink: tuple[int, int, int], width: int
) -> None:
    pen.text(place, _shorten(text, font, width), fill=ink, font=font)


def _shorten(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """The caption in at most two lines; what is longer is cut, and ends in dots."""
    words = text.split()
    first: list[str] = []
    while words and (not first or font.getlength(" ".join([*first, words[0]])) <= width):
        first.append(words.pop(0))
    lines = [" ".join(first), _shorten(" ".join(words), font, width)]
    return [line for line in lines if line]
