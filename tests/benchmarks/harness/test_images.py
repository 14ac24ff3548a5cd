"""Images on disk: what is kept, what is drawn again, and what a folder made elsewhere holds."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.images import Cell, DrawnImages, FoundImages, cells_of
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.geneval.prompts import to_prompt
from rewards.prompt import Prompt


def paint(cell: Cell) -> Image.Image:
    """An image that is a function of prompt and seed alone, as real starting noise is."""
    generator = np.random.default_rng([int(cell.prompt.id, 16), cell.seed])
    return Image.fromarray(generator.integers(0, 256, size=(16, 24, 3), dtype=np.uint8))


class Painter:
    """Draws, and remembers what it was asked for."""

    def __init__(self):
        self.asked: list[Cell] = []

    def __call__(self, cells):
        self.asked += cells
        return [paint(cell) for cell in cells]


@pytest.fixture
def painter():
    return Painter()


@pytest.fixture
def cells(suite):
    return cells_of(suite, [0])[0]


def test_names_and_order_of_cells(suite):
    blocks = cells_of(suite, [4, 5])
    assert [[cell.seed for cell in block] for block in blocks] == [[4] * 3, [5] * 3]
    assert blocks[0][1].file_name == f"{suite.prompts[1].id}_4.png"


def test_what_is_scored_is_the_file(tmp_path, cells, painter):
    pictures = DrawnImages(tmp_path, painter, print).fetch(cells, {})
    for cell, picture in zip(cells, pictures, strict=True):
        path = tmp_path / picture.name
        assert path == tmp_path / "images" / cell.file_name
        assert picture.file.image is not None
        assert np.array_equal(np.asarray(picture.file.image), np.asarray(paint(cell)))
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(paint(cell)))


def scored(pictures):
    return {picture.cell.key: {picture.file.sha256} for picture in pictures}


def test_scored_images_on_disk_are_not_drawn_again(tmp_path, cells, painter):
    first = DrawnImages(tmp_path, painter, print).fetch(cells, {})
    again = DrawnImages(tmp_path, painter, print).fetch(cells, scored(first))
    assert painter.asked == cells
    assert [picture.file.sha256 for picture in again] == [picture.file.sha256 for picture in first]


def test_a_block_is_drawn_as_a_whole_and_only_what_lacks_is_written(tmp_path, cells, painter):
    first = DrawnImages(tmp_path, painter, print).fetch(cells, {})
    (tmp_path / first[2].name).unlink()
    kept = tmp_path / first[0].name
    before = kept.stat().st_mtime_ns
    painter.asked.clear()
    again = DrawnImages(tmp_path, painter, print).fetch(cells, scored(first))
    assert painter.asked == cells
    assert kept.stat().st_mtime_ns == before
    assert [picture.file.sha256 for picture in again] == [picture.file.sha256 for picture in first]


def test_an_image_for_which_no_score_vouches_is_drawn_again(tmp_path, cells, painter):
    (tmp_path / "images").mkdir()
    paint(cells[1]).save(tmp_path / "images" / cells[0].file_name)
    pictures = DrawnImages(tmp_path, painter, print).fetch(cells, {})
    assert pictures[0].file.image is not None
    assert np.array_equal(np.asarray(pictures[0].file.image), np.asarray(paint(cells[0])))


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "text"])
def test_a_damaged_image_is_drawn_again_and_said(tmp_path, cells, painter, damage):
    notes = []
    before = DrawnImages(tmp_path, painter, notes.append).fetch(cells, {})
    path = tmp_path / before[1].name
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "torn": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "empty": b"",
            "text": b"not an image",
        }[damage]
    )
    painter.asked.clear()
    after = DrawnImages(tmp_path, painter, notes.append).fetch(cells, scored(before))
    assert painter.asked == cells
    assert path.read_bytes() == data
    assert [picture.file.sha256 for picture in after] == [picture.file.sha256 for picture in before]
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert "drawn again" in notes[0]


def test_an_image_swapped_after_scoring_is_drawn_again(tmp_path, cells, painter):
    notes = []
    source = DrawnImages(tmp_path, painter, notes.append)
    before = scored(source.fetch(cells, {}))
    paint(cells[1]).save(tmp_path / "images" / cells[0].file_name)
    painter.asked.clear()
    pictures = source.fetch(cells, before)
    assert painter.asked == cells
    assert {pictures[0].file.sha256} == before[cells[0].key]
    assert "SHA-256 changed" in notes[0]


def test_a_generation_that_failed_has_no_image(tmp_path, cells):
    pictures = DrawnImages(tmp_path, lambda asked: ["it is not finite", *map(paint, asked[1:])], print).fetch(cells, {})
    assert pictures[0].file.image is None
    assert pictures[0].file.problem == "the model made no image: it is not finite"
    assert not pictures[0].file.missing
    assert not (tmp_path / pictures[0].name).exists()


def test_a_model_that_gives_too_few_images_is_a_bug(tmp_path, cells):
    with pytest.raises(ValueError, match="asked for 3 images and gave 1"):
        DrawnImages(tmp_path, lambda asked: [paint(asked[0])], print).fetch(cells, {})


def test_named_images_of_others(tmp_path, suite, cells):
    for cell in [*cells[:2], Cell(cells[0].prompt, 7)]:
        paint(cell).save(tmp_path / cell.file_name)
    paint(cells[0]).save(tmp_path / "somebody_0.png")
    notes = []
    found = FoundImages(tmp_path, suite, notes.append)
    assert found.seeds == [0, 7]
    pictures = found.fetch(cells, {})
    assert [picture.file.missing for picture in pictures] == [False, False, True]
    assert cells[2].file_name in pictures[2].file.problem
    assert notes == [f"{tmp_path}: 1 images belong to no prompt of the suite small and are not scored."]


def test_listed_images_with_and_without_seeds(tmp_path, suite):
    for name in ("x.png", "y.jpg", "z.png"):
        paint(Cell(suite.prompts[0], 0)).save(tmp_path / name)
    metadata = tmp_path / "metadata.csv"
    metadata.write_text('file_name,prompt\nx.png,a cat\ny.jpg,"a sign that says ""OPEN"""\nz.png,a cat\n')
    found = FoundImages(tmp_path, suite)
    ids = [prompt.id for prompt in suite.prompts]
    assert found.paths == {
        (ids[0], 0): tmp_path / "x.png",
        (ids[2], 0): tmp_path / "y.jpg",
        (ids[0], 1): tmp_path / "z.png",
    }
    metadata.write_text("file_name,prompt,seed\nx.png,a cat,3\nz.png,a cat,1\n")
    assert FoundImages(tmp_path, suite).seeds == [1, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,prompt\nx.png,a cat\n", 'needs a column "file_name"; it has: name, prompt'),
        ("file_name\nx.png\n", 'needs a column "prompt"'),
        ("file_name,prompt,seed\nx.png,a cat,one\n", 'line 2: the seed "one"'),
        ("file_name,prompt,seed\nx.png,a cat,1\ny.png,a cat,1\n", "line 3: .* two images of seed 1"),
        ("file_name,prompt\n,a cat\n", "line 2: a row needs a file_name"),
        ("file_name,prompt\nx.png,a horse\n", "No image in .* belongs to the suite small"),
    ],
)
def test_wrong_lists_are_refused(tmp_path, suite, text, sentence):
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        FoundImages(tmp_path, suite)


RECORDS = (
    {"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "a photo of two cats"},
    {"tag": "counting", "include": [{"class": "cat", "count": 3}], "prompt": "a photo of two cats"},
    {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}], "prompt": "a photo of a red cat"},
)


@pytest.fixture
def records():
    return Suite("records", tuple(to_prompt(record) for record in RECORDS), "by hand")


def write_samples(folder, record, *names):
    """One folder as GenEval's own program writes it; returns the paths of the samples."""
    (folder / "samples").mkdir(parents=True)
    (folder / "metadata.jsonl").write_text(json.dumps(record))
    Image.new("RGB", (8, 8)).save(folder / "grid.png")
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / "samples" / name)
    return [folder / "samples" / name for name in names]


def test_the_official_layout_is_matched_by_record_and_number(tmp_path, records):
    notes = []
    ids = [prompt.id for prompt in records.prompts]
    one, other = write_samples(tmp_path / "00000", RECORDS[2], "0000.png", "0003.png")
    (twin,) = write_samples(tmp_path / "00001", dict(reversed(RECORDS[1].items())), "00000.png")
    found = FoundImages(tmp_path, records, notes.append)
    assert found.paths == {(ids[2], 0): one, (ids[2], 3): other, (ids[1], 0): twin}
    assert found.seeds == [0, 3]
    assert notes == []


def test_missing_samples_are_said_where_they_should_be(tmp_path, records):
    write_samples(tmp_path / "00007", RECORDS[2], "00000.png")
    pictures = FoundImages(tmp_path, records).fetch([cell for block in cells_of(records, [0, 1]) for cell in block], {})
    assert [picture.file.missing for picture in pictures] == [True, True, False, True, True, True]
    assert pictures[5].file.problem == f"there is no image {tmp_path / '00007/samples/00001.png'}"
    assert records.prompts[0].id in pictures[0].file.problem


def test_strangers_of_the_official_layout_are_counted(tmp_path, records):
    notes = []
    write_samples(tmp_path / "00000", RECORDS[0], "0000.png", "best.png", "grid.png")
    write_samples(tmp_path / "00001", {**RECORDS[0], "tag": "colors"}, "0000.png", "0001.png")
    FoundImages(tmp_path, records, notes.append)
    assert notes == [f"{tmp_path}: 3 images belong to no prompt of the suite records and are not scored."]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "metadata.jsonl, line 1: not JSON"),
        ('{"tag": "colors"}', "metadata.jsonl, line 1: needs an object with the text"),
        ('{"prompt": "a"}\n{"prompt": "b"}\n', "holds 2 records"),
        ('{"prompt": "a"}', "No image in .* belongs to the suite records"),
    ],
)
def test_wrong_records_are_refused(tmp_path, records, text, sentence):
    write_samples(tmp_path / "00000", RECORDS[0], "0000.png")
    (tmp_path / "00000/metadata.jsonl").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        FoundImages(tmp_path, records)


def test_two_samples_of_one_number_are_refused(tmp_path, records):
    write_samples(tmp_path / "00000", RECORDS[0], "0000.png")
    again = tmp_path / "00001"
    write_samples(again, RECORDS[0], "00000.png")
    with pytest.raises(UsageError, match='both sample 0 of the prompt "a photo of two cats"'):
        FoundImages(tmp_path, records)
    Image.new("RGB", (8, 8)).save(again / "samples/0.png")
    with pytest.raises(UsageError, match="have the same number"):
        FoundImages(tmp_path, records)


def test_a_folder_that_is_none(tmp_path, suite):
    with pytest.raises(UsageError, match="is not a folder of images"):
        FoundImages(tmp_path / "nowhere", suite)


def test_one_image_serves_prompts_of_equal_text(tmp_path):
    twins = Suite("twins", (Prompt("a cat", {"count": 1}), Prompt("a cat", {"count": 2})), "")
    (tmp_path / "metadata.csv").write_text("file_name,prompt\nx.png,a cat\n")
    assert FoundImages(tmp_path, twins).paths == {(prompt.id, 0): tmp_path / "x.png" for prompt in twins.prompts}
