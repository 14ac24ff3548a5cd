"""Figures of pictures, on images whose numbers are known beforehand."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.store import ScoreStore, read_rows
from benchmarks.reading.image_statistics import (
    CACHE_FILE,
    FIGURES,
    NEAR,
    Seen,
    by_prompt,
    difference_hash,
    distance,
    look,
    look_through,
    measure_pictures,
)
from rewards.errors import ScoringError

FULL = 2**64 - 1


def ramp(reverse=False):
    """72 x 64 pixels that grow brighter (or darker) from column to column."""
    columns = np.repeat(np.arange(9, dtype=np.uint8) * 20, 8)
    return Image.fromarray(np.tile(columns[::-1] if reverse else columns, (64, 1))).convert("RGB")


def png(image):
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


def test_hash_of_a_ramp_and_of_its_mirror():
    assert difference_hash(ramp()) == FULL
    assert difference_hash(ramp(reverse=True)) == 0
    assert distance(difference_hash(ramp()), difference_hash(ramp(reverse=True))) == 64


def test_hash_is_blind_to_size_and_brightness():
    brighter = ramp().point(lambda value: value + 40)
    assert difference_hash(ramp().resize((36, 32), Image.Resampling.BOX)) == FULL
    assert difference_hash(brighter) == FULL


def test_one_image_by_hand():
    seen = look(png(Image.new("RGB", (16, 16))))
    assert (seen.dark, seen.edges, seen.colours, seen.dhash) == (1.0, 0.0, 0.0, 0)
    assert look(png(Image.new("RGB", (16, 16), "white"))).dark == 0
    with pytest.raises(ScoringError, match="is no PNG"):
        look(b"no image")


def seen(dhash, dark=0.0):
    return Seen("sha", dark, 0.25, 2.0, dhash)


def test_figures_between_seeds_by_hand():
    # Distances of the three pairs: 4 (near), 8, 4 (near); of the other prompt's one pair: 5 (not near).
    found = by_prompt(
        {
            ("p", 0): seen(0b0000_0000, 0.0),
            ("p", 1): seen(0b0000_1111, 0.5),
            ("p", 2): seen(0b1111_1111, 1.0),
            ("q", 0): seen(0b0_0000),
            ("q", 1): seen(0b1_1111),
            ("r", 0): seen(7),
        }
    )
    assert NEAR == 4
    assert found["near_duplicates"] == {"p": pytest.approx(2 / 3), "q": 0.0}
    assert found["diversity"] == {"p": pytest.approx(16 / 3 / 64), "q": pytest.approx(5 / 64)}
    assert found["dark"] == {"p": 0.5, "q": 0.0, "r": 0.0}


@pytest.fixture
def drawn(write_results, suite):
    """A results folder with real images: two seeds of three prompts, of which one prompt's are the same image."""
    folder = write_results("m", {"taste@1": {(prompt, seed): 0.5 for prompt in range(3) for seed in range(2)}})
    (folder / "images").mkdir()
    rows = []
    for row in read_rows(folder):
        number = [prompt.id for prompt in suite.prompts].index(row.prompt_id)
        data = png(ramp(reverse=bool(number and row.seed)))
        (folder / row.image).write_bytes(data)
        rows.append(replace(row, image_sha=hashlib.sha256(data).hexdigest()))
    ScoreStore(folder).rewrite(rows)
    return folder


def test_a_folder_is_measured(drawn):
    figures = measure_pictures(drawn)
    assert set(figures) == set(FIGURES)
    assert figures["near_duplicates"] == pytest.approx(1 / 3)
    assert figures["diversity"] == pytest.approx(2 / 3)
    assert figures["dark"] == pytest.approx(2 / 9)  # luma 0 and 20/255 of nine steps


def test_what_was_seen_is_kept_and_a_damaged_record_is_made_again(drawn):
    before = measure_pictures(drawn)
    kept = (drawn / CACHE_FILE).read_text()
    assert kept.splitlines()[0] == "image_sha,dark,edges,colours,dhash"
    for path in (drawn / "images").iterdir():
        path.unlink()
    assert measure_pictures(drawn) == before
    (drawn / CACHE_FILE).write_text(kept[:90])
    assert measure_pictures(drawn)["dark"] is None


def test_other_images_than_those_scored_are_not_looked_at(drawn):
    first = read_rows(drawn)[0].image_sha
    others = [row for row in read_rows(drawn) if row.image_sha != first]
    for row in others:
        (drawn / row.image).write_bytes(png(Image.new("RGB", (8, 8))))
    found, problems = look_through(drawn)
    assert set(problems) == {(row.prompt_id, row.seed) for row in others}
    assert all("is not the image that was scored" in why for why in problems.values())
    assert (len(others), len(found)) == (2, 4)
