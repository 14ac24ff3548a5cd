"""The contact sheet shows the pixels that were scored, beside each other."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from benchmarks.reading.contact_sheet import MARGIN, NOTHING, TILE, _wrap, before_after, enlarge
from rewards.errors import UsageError

COLOURS = {"a": (200, 30, 30), "b": (30, 30, 200)}


@pytest.fixture
def folders(write_results, suite):
    made = []
    for name, colour in COLOURS.items():
        folder = write_results(name, {"taste@1": {(n, s): n / 4 for n in range(3) for s in (0, 1)}})
        (folder / "images").mkdir()
        for prompt in suite.prompts:
            Image.new("RGB", (64, 32), colour).save(folder / "images" / f"{prompt.id}_0.png")
        made.append(folder)
    return made


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((64, 32), (256, 128)), ((128, 64), (256, 128)), ((100, 50), (200, 100)), ((1024, 512), (256, 128))],
)
def test_small_images_grow_by_whole_factors(size, wanted):
    assert enlarge(Image.new("RGB", size)).size == wanted


def test_enlarging_only_repeats_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, size=(32, 64, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(enlarge(Image.fromarray(pixels))), pixels.repeat(4, axis=0).repeat(4, axis=1))


def test_runs_stand_side_by_side(folders, tmp_path):
    path = before_after(folders, tmp_path / "out" / "sheet.png", prompts=2)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[1] == MARGIN + 2 * (TILE + MARGIN)
    for name, left in (("a", MARGIN), ("b", MARGIN + TILE + MARGIN)):
        column = (sheet[:, left : left + TILE] == COLOURS[name]).all(axis=2)
        assert column.all(axis=1).sum() == 2 * 128  # two prompts, each 32 pixels high and enlarged 4 times
        assert (sheet == COLOURS[name]).all(axis=2).sum() == 2 * 128 * TILE


def test_the_sheet_grows_with_the_prompts_and_stops_at_the_suite(folders, tmp_path):
    heights = [
        Image.open(before_after(folders, tmp_path / f"{count}.png", prompts=count)).height for count in (1, 2, 3, 9)
    ]
    assert heights[1] - heights[0] == heights[2] - heights[1] > 128
    assert heights[3] == heights[2]


def test_a_missing_image_is_a_grey_tile(folders, tmp_path, suite):
    (folders[1] / "images" / f"{suite.prompts[0].id}_0.png").unlink()
    sheet = np.asarray(Image.open(before_after(folders, tmp_path / "sheet.png", prompts=1)))
    rows = (sheet[:, MARGIN + TILE + MARGIN :][:, :TILE] == NOTHING).all(axis=(1, 2))
    assert rows.sum() == TILE // 2


def test_wrong_requests(folders, tmp_path):
    with pytest.raises(UsageError, match='Did you mean "taste@1"'):
        before_after(folders, tmp_path / "sheet.png", reward="taste")
    with pytest.raises(UsageError, match="at least one"):
        before_after([], tmp_path / "sheet.png")
    with pytest.raises(UsageError, match="at least one"):
        before_after(folders, tmp_path / "sheet.png", prompts=0)


def test_captions_keep_every_word_they_can():
    font = ImageFont.load_default(size=15)
    assert _wrap("a cat", font, 300) == ["a cat"]
    first, second = _wrap("a sign that says something long enough for two lines", font, 220)
    assert f"{first} {second}" == "a sign that says something long enough for two lines"
    cut = _wrap("word " * 200, font, 220)
    assert len(cut) == 2
    assert cut[1].endswith("...")
    assert all(font.getlength(line) <= 220 for line in cut)
