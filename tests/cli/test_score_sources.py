"""`dgpo score` over folders, lists, tables and tars: the same scores from each, and damage as rows."""

import csv
import json
import sys
from pathlib import Path

import fsspec
import pandas
import pytest
from typer.testing import CliRunner

from cli.commands import app
from rewards.exits import ENVIRONMENT, SOME_FAILED, WRONG_USE
from tests.benchmarks.stored_images import draw, write_everywhere, write_table

IMAGES = draw(12)
IMAGES[5] = IMAGES[5][:60]
PROMPTS = [f'a sign that says "word{place % 3}"' for place in range(12)]


@pytest.fixture
def score(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def score(*words, code=SOME_FAILED):
        words = ["score", "--reward", "imagestats", "--workers", "0", *map(str, words)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.stderr
        return done

    return score


@pytest.fixture
def sources(tmp_path):
    return write_everywhere(tmp_path / "stored", IMAGES, PROMPTS)


def read(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_folder_list_table_and_tars_give_the_same_scores_to_the_last_bit(score, sources):
    found = {}
    for kind in ("folder/pictures", "folder/pictures/metadata.csv", "table/pictures", "tar/pictures"):
        score("--images", sources / kind, "--output", "s.csv")
        found[kind] = [{**row, "image": "", "seconds": ""} for row in read("s.csv")]
    first, *others = found.values()
    assert len(first) == 36
    assert [row["status"] for row in first] == ["ok"] * 15 + ["failed"] * 3 + ["ok"] * 18
    assert len({row["score"] for row in first}) > 20
    for other in others:
        assert other == first


def test_names_of_images_tell_where_they_are(score, sources):
    score("--images", sources / "tar" / "pictures", sources / "table" / "pictures" / "a.parquet", "--output", "s.csv")
    names = [row["image"].removeprefix(f"{sources}/") for row in read("s.csv")[::3]]
    assert names[:2] == ["tar/pictures/0.tar#000.png", "tar/pictures/0.tar#001.png"]
    assert names[-1] == "table/pictures/a.parquet#11"


def test_a_url_is_a_source(score, sources):
    system = fsspec.filesystem("memory")
    try:
        system.put(str(sources / "tar"), "/shop", recursive=True)
        score("memory://shop/pictures/0.tar", "--output", "far.csv", code=0)
    finally:
        system.rm("/", recursive=True)
    score(sources / "tar" / "pictures" / "0.tar", "--output", "near.csv", code=0)
    far, near = read("far.csv"), read("near.csv")
    assert [row["image"] for row in far][::3] == [f"memory://shop/pictures/0.tar#00{place}.png" for place in range(4)]
    assert [(row["image_sha"], row["score"]) for row in far] == [(row["image_sha"], row["score"]) for row in near]


def test_parquet_is_the_csv_with_types(score, sources):
    score("--images", sources / "tar" / "pictures", "--output", "s.csv")
    score("--images", sources / "tar" / "pictures", "--output", "s.parquet")
    table, rows = pandas.read_parquet("s.parquet"), read("s.csv")
    assert list(table.columns) == list(rows[0])
    assert table["image"].tolist() == [row["image"] for row in rows]
    assert table["score"].map(repr).tolist() == [row["score"] or "nan" for row in rows]
    assert table["seed"].tolist() == [int(row["seed"]) for row in rows]


def test_a_tar_that_was_cut_off_is_a_row_and_an_exit_code(score, sources):
    tar = sources / "tar" / "pictures" / "1.tar"
    tar.write_bytes(tar.read_bytes()[:1200])
    (sources / "tar" / "pictures" / "2.tar").write_bytes(b"")
    done = score("--images", sources / "tar" / "pictures", sources / "gone.tar", "--output", "s.csv")
    rows = [row for row in read("s.csv") if row["reward"] == "imagestats.dark@1"]
    assert [(Path(row["image"]).name, row["status"]) for row in rows] == [
        *((f"0.tar#00{place}.png", "ok") for place in range(4)),
        ("1.tar#004.png", "failed"),
        ("1.tar", "failed"),
        ("2.tar", "failed"),
        ("gone.tar", "missing"),
    ]
    assert "its prompt is not in what is left of the tar" in rows[4]["detail"]
    assert "the tar ends at byte 1024 without its end mark" in rows[5]["detail"]
    assert "4 of 8 images could not be scored, and --max-failed is 0" in done.stderr
    score(
        "--images", sources / "tar" / "pictures", sources / "gone.tar", "--max-failed", 4, "--output", "s.csv", code=0
    )


def test_a_flipped_bit_of_a_table_costs_its_row_group(score, sources):
    table = sources / "table" / "pictures" / "a.parquet"
    data = bytearray(table.read_bytes())
    data[data.index(IMAGES[11]) + 40] ^= 1
    table.write_bytes(data)
    document = json.loads(score(table, "--json").stdout)
    assert (document["images"], document["failed"]) == (12, 3)
    assert (
        sum(
            reason.startswith("the image file cannot be read (the table is damaged at rows 10 to 11")
            for reason in document["reasons"]
        )
        == 1
    )


def test_rewards_that_read_prompts_do_not_stumble_over_what_is_lost(score, sources):
    """What a damaged tar lacks is its prompts too, at whatever byte it ends; what is whole is scored."""
    tar = sources / "tar" / "pictures" / "0.tar"
    whole = tar.read_bytes()
    for size in (0, 1100, 2000, 3000):
        tar.write_bytes(whole[:size])
        score("--images", tar, sources / "tar" / "pictures" / "2.tar", "--reward", "ocr", "--output", "s.csv")
        read_by_ocr = [row for row in read("s.csv") if row["reward"] == "ocr@1"]
        assert [row["image_sha"] != "" for row in read_by_ocr[-4:]] == [True] * 4
        assert read_by_ocr[-5]["image"] == str(tar)


def test_a_table_without_its_columns_is_refused(score, tmp_path):
    write_table(tmp_path / "a.parquet", [1], ["a"])
    pandas.DataFrame({"Image": [b"x"], "prompt": ["a"]}).to_parquet("b.parquet")
    assert 'its column "image" is int64' in score("a.parquet", code=WRONG_USE).stderr
    told = score("b.parquet", code=WRONG_USE).stderr
    assert 'has no column "image"; it has: Image, prompt. Did you mean "Image"?' in told


def test_without_pyarrow_one_sentence_says_how_to_get_it(score, sources, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    for words in ([sources / "table" / "pictures"], [sources / "tar" / "pictures", "--output", "s.parquet"]):
        assert "pip install 'dgpo[tables]'" in score(*words, code=ENVIRONMENT).stderr
    score("--images", sources / "tar" / "pictures", "--output", "s.csv")
