"""Parquet tables: every way in which they hold images, few rows in memory, and what damage costs."""

import pickle
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.harness.listing import list_images
from benchmarks.harness.parquet import IMAGES_AT_ONCE, list_table
from benchmarks.harness.stored import Lost, file_image, read_stored
from rewards.errors import DgpoError, UsageError
from rewards.images import IMAGE_BYTES
from rewards.prompt import Prompt
from tests.benchmarks.stored_images import draw, write_table

IMAGES = draw(24)
PROMPTS = [f"picture {place}" for place in range(24)]


def read(entries):
    """The bytes of each image, or the reason why there are none."""
    found = []
    for get in read_stored(entry.image for entry in entries):
        try:
            found.append(get())
        except OSError as error:
            found.append(error.strerror)
    return found


@pytest.mark.parametrize(
    "image",
    [
        pa.array(IMAGES),
        pa.array(IMAGES, pa.large_binary()),
        pa.array([{"bytes": data, "path": None} for data in IMAGES]),
        pa.array([{"bytes": data, "path": "somewhere/else.png"} for data in IMAGES]),
    ],
    ids=["bytes", "large", "struct", "struct with a path"],
)
def test_bytes_of_rows_in_order_under_their_numbers(tmp_path, image):
    table = write_table(tmp_path / "pictures" / "a.parquet", image, PROMPTS)
    entries = list_images([table])
    assert [entry.image.name for entry in entries] == [f"{table}#{row}" for row in range(24)]
    assert [entry.prompt for entry in entries] == [Prompt(text) for text in PROMPTS]
    assert {(entry.run, entry.seed) for entry in entries} == {("pictures", 0)}
    assert read(entries) == IMAGES
    assert read(pickle.loads(pickle.dumps(entries))) == IMAGES


@pytest.mark.parametrize("chosen", [[0], [23], [7, 8], [3, 4, 5, 21, 22], list(range(0, 24, 5))])
def test_some_rows_are_those_of_all(tmp_path, chosen):
    entries = list_images([write_table(tmp_path / "a.parquet", IMAGES, PROMPTS)])
    assert read([entries[row] for row in chosen]) == [IMAGES[row] for row in chosen]


def test_paths_are_files_beside_the_table(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(IMAGES[0])
    paths = ["sub/a.png", "gone.png", None]
    entries = list_images([write_table(tmp_path / "a.parquet", paths, ["a", "b", "c"])])
    assert entries[0].image == file_image(str(tmp_path / "sub" / "a.png"))
    assert entries[2].image.name == f"{tmp_path}/a.parquet#2"
    assert read(entries) == [IMAGES[0], "No such file or directory", "the table has no image in this row"]
    rows = [{"bytes": None, "path": path} for path in paths]
    assert read(list_images([write_table(tmp_path / "b.parquet", rows, ["a", "b", "c"])])) == read(entries)


def test_a_table_reaches_no_server(tmp_path):
    paths = ["https://example.org/a.png", "file:///etc/hostname"]
    for image in (paths, [{"bytes": None, "path": path} for path in paths]):
        found = read(list_images([write_table(tmp_path / "a.parquet", image, ["a", "b"])]))
        assert all("an address of another kind than its own, which is not followed" in reason for reason in found)


def test_seeds_and_ids_are_taken_where_they_are(tmp_path):
    two, three = Prompt("cats", {"count": 2}), Prompt("cats", {"count": 3})
    table = write_table(
        tmp_path / "a.parquet", IMAGES[:3], ["cats", "cats", None], seed=[5, None, 7], id=[three.id, "row 1", "row 2"]
    )
    assert [(entry.image.name[-1], entry.prompt, entry.seed) for entry in list_images([table], [two, three])] == [
        ("0", three, 5),
        ("1", two, 0),
        ("1", three, 1),
        ("2", None, 7),
    ]


def test_few_rows_are_in_memory(tmp_path):
    """One row group of 60 MB: its pages come as they are needed, and a page may have a thousand rows."""
    data = [bytes([place % 256]) * 2**20 for place in range(60)]
    table = pa.table({"image": data, "prompt": [""] * 60})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", write_batch_size=4)
    del table
    entries = list_images([tmp_path / "a.parquet"])
    before = pa.total_allocated_bytes()
    for place, get in enumerate(read_stored(entry.image for entry in entries)):
        assert get() == data[place]
        assert pa.total_allocated_bytes() - before < 2 * (IMAGES_AT_ONCE + 4) * 2**20


def test_a_row_too_large_and_one_without_an_image(tmp_path):
    rows = [{"bytes": bytes(IMAGE_BYTES + 1), "path": "a.png"}, None, {"bytes": IMAGES[0], "path": None}]
    entries = list_images([write_table(tmp_path / "a.parquet", rows, ["a", "b", "c"])])
    assert read(entries) == [
        f"it has {IMAGE_BYTES + 1} bytes, and at most {IMAGE_BYTES} are read",
        "the table has no image in this row",
        IMAGES[0],
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"imge": IMAGES[:1], "prompt": ["a"]}, r'no column "image"; it has: imge, prompt\. Did you mean "imge"\?'),
        ({"image": IMAGES[:1], "caption": ["a"]}, r'no column "prompt"; it has: image, caption\.$'),
        ({"image": [3], "prompt": ["a"]}, 'its column "image" is int64; it has to hold bytes, a struct'),
        ({"image": [{"data": b"x"}], "prompt": ["a"]}, 'its column "image" is struct'),
        ({"image": IMAGES[:1], "prompt": [3]}, 'its column "prompt" is int64; it has to hold texts'),
        ({"image": IMAGES[:1], "prompt": ["a"], "seed": [-1]}, '#0: the seed "-1" is not a whole number'),
        ({"image": IMAGES[:1], "prompt": ["a"], "seed": [1.5]}, '#0: the seed "1.5" is not a whole number'),
        ({"image": IMAGES[:2], "prompt": ["a"] * 2, "seed": [1, 1]}, r'#1: seed 1 of the prompt "a" is already.*#0'),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, table, said):
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=said):
        list_images([tmp_path / "a.parquet"])


def test_one_text_for_all_needs_no_column_of_prompts(tmp_path):
    pq.write_table(pa.table({"image": IMAGES[:2]}), tmp_path / "a.parquet")
    assert [entry.prompt for entry in list_images([tmp_path / "a.parquet"], text="a cat")] == [Prompt("a cat")] * 2
    with pytest.raises(UsageError, match="#0: this image has a prompt already"):
        list_images([write_table(tmp_path / "b.parquet", IMAGES[:1], ["a"])], text="a cat")


def test_damage_of_images_costs_their_row_group(tmp_path):
    path = write_table(tmp_path / "a.parquet", IMAGES, PROMPTS)
    data = bytearray(path.read_bytes())
    data[data.index(IMAGES[10]) + 30] ^= 1
    path.write_bytes(data)
    entries = list_images([path])
    found = read(entries)
    assert found[:8] == IMAGES[:8]
    assert found[16:] == IMAGES[16:]
    assert all("the table is damaged at rows 8 to 15" in reason for reason in found[8:16])


def test_damage_of_prompts_is_known_before_anything_is_scored(tmp_path):
    path = write_table(tmp_path / "a.parquet", IMAGES, PROMPTS)
    data = bytearray(path.read_bytes())
    data[data.index(b"picture 17")] ^= 1
    path.write_bytes(data)
    entries = list_images([path])
    assert [entry.lost for entry in entries] == [False] * 16 + [True] * 8
    assert [entry.image.name for entry in entries] == [f"{path}#{row}" for row in range(24)]
    assert read(entries)[:16] == IMAGES[:16]
    assert "the table is damaged at rows 16 to 23" in read(entries)[23]


@pytest.mark.parametrize("kept", [0, 3, 2000, -1, -9])
def test_half_a_table_is_one_row(tmp_path, kept):
    path = write_table(tmp_path / "a.parquet", IMAGES, PROMPTS)
    path.write_bytes(path.read_bytes()[:kept])
    (told,) = list_table(str(path))
    assert isinstance(told.image.holder, Lost)
    assert told.image.name == str(path)
    assert "it is no whole Parquet file" in told.image.holder.reason
    assert "\n" not in told.image.holder.reason


def test_a_table_that_changes_after_it_was_listed(tmp_path):
    path = write_table(tmp_path / "a.parquet", IMAGES, PROMPTS)
    entries = list_images([path])
    write_table(path, IMAGES[:10], PROMPTS[:10])
    assert read(entries) == IMAGES[:10] + ["the table has no such row any more"] * 14
    path.unlink()
    assert read(entries) == ["No such file or directory"] * 24


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_any_flipped_bit_is_a_refusal_or_a_row_and_never_a_crash(tmp_path, compression):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": IMAGES, "prompt": PROMPTS}), path, row_group_size=8, compression=compression)
    whole, random_place = path.read_bytes(), random.Random(1)
    for trial in range(150):
        data = bytearray(whole)
        first = len(data) - 2000 if trial % 2 else 0  # half of them where the table says what it holds
        place = random_place.randrange(first, len(data))
        data[place] ^= 1 << random_place.randrange(8)
        path.write_bytes(data)
        try:
            entries = list_images([path])
        except DgpoError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        found = read(entries)
        assert len(found) == len(entries) >= 1
        assert all(isinstance(one, bytes) or one for one in found)
