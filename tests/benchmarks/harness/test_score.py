"""Scores of images that are there: what is listed, in which rows it ends, and what a kill leaves behind."""

import hashlib
import json
import os
import threading
from dataclasses import replace

import pytest
from PIL import Image, features

from benchmarks.harness.draft import Draft, key_of
from benchmarks.harness.listing import Entry, list_images
from benchmarks.harness.reading import FILES
from benchmarks.harness.score import check_entries, score_images
from benchmarks.harness.score_files import read_scores
from benchmarks.harness.store import COLUMNS, load_scores
from benchmarks.harness.stored import file_image
from benchmarks.harness.tally import Tally
from rewards.errors import UsageError
from rewards.images import image_endings
from rewards.imagestats.reward import DarkShare
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.registry import build
from rewards.scoring.questions import tell_facts

DARK = parse_rewards(["imagestats.dark"])


@pytest.fixture
def folder(tmp_path):
    """Images whose share of dark pixels is 0, 1/4, 2/4 and so on."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def draw(path, dark=0, kind=None):
    image = Image.new("RGB", (4, 1), "white")
    for column in range(dark):
        image.putpixel((column, 0), (0, 0, 0))
    image.save(path, kind)
    return path


def score(entries, specs=DARK, workers=0, known=None):
    with ScoringPool(specs, workers) as pool:
        return list(score_images(entries, pool, known))


def rows_of(entries, specs=DARK, **settings):
    return [row for batch in score(entries, specs, **settings) for row in batch]


class TestListing:
    def test_folder_is_its_images_by_name_in_any_format(self, folder):
        names = ["b.png", "a.JPG", "c.webp", "d.gif", "e.bmp", "f.tiff"]
        for name in names:
            draw(folder / name)
        for name in ("notes.txt", ".hidden.png", "table.h5"):
            (folder / name).write_text("no image")
        (folder / "deeper").mkdir()
        draw(folder / "deeper" / "z.png")
        entries = list_images([folder])
        assert [os.path.basename(entry.image.name) for entry in entries] == sorted(names)
        assert {entry.run for entry in entries} == {"pictures"}
        assert [entry.seed for entry in entries] == [0, 1, 2, 3, 4, 5]
        assert {entry.prompt for entry in entries} == {None}
        assert (".avif" in image_endings()) == features.check("avif")

    def test_names_are_looked_up_in_the_prompt_file(self, folder):
        cat, dog = Prompt("a cat"), Prompt("a dog", {"tag": "counting"})
        for name in (f"{cat.id}_3.png", f"{dog.id}_0.jpg", "portrait_1.png"):
            draw(folder / name)
        found = {
            os.path.basename(entry.image.name): (entry.prompt, entry.seed)
            for entry in list_images([folder], [cat, dog])
        }
        assert found == {
            f"{cat.id}_3.png": (cat, 3),
            f"{dog.id}_0.jpg": (dog, 0),
            "portrait_1.png": (None, 0),
        }

    def test_metadata_is_taken_row_by_row(self, folder):
        (folder / "metadata.csv").write_text(
            'file_name,prompt,seed,artist\nx.png,"a ""red"" cat",7,me\nx.png,a dog,,me\nsub/y.png,a dog,,me\n',
            encoding="utf-8-sig",
        )
        draw(folder / "unlisted.png")
        assert list_images([folder]) == [
            Entry(file_image(str(folder / "x.png")), "pictures", Prompt('a "red" cat'), 7),
            Entry(file_image(str(folder / "x.png")), "pictures", Prompt("a dog"), 0),
            Entry(file_image(str(folder / "sub" / "y.png")), "pictures", Prompt("a dog"), 1),
        ]
        assert list_images([folder / "metadata.csv"]) == list_images([folder])

    def test_rows_find_the_spec_of_their_text_in_the_prompt_file(self, folder):
        (folder / "metadata.csv").write_text("file_name,prompt\nx.png,two cats\ny.png,a fish\n")
        counted, plain = Prompt("two cats", {"count": 2}), Prompt("two cats")
        found = [
            (os.path.basename(entry.image.name), entry.prompt) for entry in list_images([folder], [counted, plain])
        ]
        assert found == [("x.png", counted), ("x.png", plain), ("y.png", Prompt("a fish"))]

    def test_one_text_for_all(self, folder):
        files = [draw(folder / name) for name in ("a.png", "b.png")]
        assert list_images([folder], text="a cat") == list_images(files, text="a cat")
        assert [(entry.prompt, entry.seed) for entry in list_images([folder], text="a cat")] == [
            (Prompt("a cat"), 0),
            (Prompt("a cat"), 1),
        ]

    def test_a_source_given_twice_counts_once(self, folder):
        path = draw(folder / "a.png")
        assert len(list_images([folder, folder, path])) == 1

    def test_folders_of_one_name_are_numbered_apart(self, tmp_path):
        cat = Prompt("a cat")
        for run in ("one", "two"):
            (tmp_path / run / "images").mkdir(parents=True)
            draw(tmp_path / run / "images" / f"{cat.id}_0.png")
        entries = list_images([tmp_path / "one" / "images", tmp_path / "two" / "images"], [cat])
        assert [(entry.image.name.split(os.sep)[-3], entry.run, entry.seed) for entry in entries] == [
            ("one", "images", 0),
            ("two", "images", 0),
        ]

    def test_missing_file_is_an_entry(self, folder):
        assert [entry.image.name for entry in list_images([folder / "gone.PNG"])] == [str(folder / "gone.PNG")]

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ("prompt\na cat\n", 'needs a column "file_name"'),
            ("file_name,prompt\n,a cat\n", "line 2: a row needs a file_name"),
            ("file_name,prompt,seed\nx.png,a cat,-1\n", 'line 2: the seed "-1" is not a whole number'),
            ("file_name,prompt,seed\nx.png,a,1\ny.png,b,1\nz.png,a,1\n", 'line 4: seed 1 of the prompt "a" is already'),
            ("file_name,prompt\n", "lists no image"),
            ("", 'needs a column "file_name"'),
        ],
    )
    def test_metadata_that_makes_no_sense_is_refused_by_line(self, folder, table, said):
        (folder / "metadata.csv").write_text(table)
        with pytest.raises(UsageError, match=said):
            list_images([folder])

    def test_wrong_sources_are_refused(self, folder):
        with pytest.raises(UsageError, match="holds no image"):
            list_images([folder])
        with pytest.raises(UsageError, match="there is no such folder or image"):
            list_images([folder / "absent"])
        with pytest.raises(UsageError, match="either --prompts"):
            list_images([folder], [Prompt("a")], "b")
        (folder / "metadata.csv").write_text("file_name,prompt\nx.png,a cat\n")
        with pytest.raises(UsageError, match="has a prompt already; leave --prompt out"):
            list_images([folder], text="a dog")
        (folder / "metadata.csv").write_bytes(b"file_name\n\xff.png\n")
        with pytest.raises(UsageError, match=r"metadata.csv, line 2: not UTF-8"):
            list_images([folder])


class TestPrompts:
    def test_only_rewards_that_read_prompts_need_them(self, folder):
        draw(folder / "a.png")
        ocr = parse_rewards(["ocr"])
        with ScoringPool([*DARK, *ocr], workers=0) as pool:
            check_entries(list_images([folder]), pool.limited_to(DARK))
            missing = r"ocr@1 cannot .* 1 of 1 .*--prompt TEXT.*--prompts FILE.*metadata.csv"
            with pytest.raises(UsageError, match=missing):
                check_entries(list_images([folder]), pool)
            with pytest.raises(UsageError, match=r"ocr@1 cannot judge 1 of 1 prompts"):
                check_entries(list_images([folder], text="no quotes"), pool.limited_to(ocr))
            check_entries(list_images([folder], text='a "word"'), pool)


class TestRows:
    def test_every_entry_by_every_reward_with_what_was_seen(self, folder):
        for place in range(3):
            draw(folder / f"{place}.png", dark=place)
        rows = rows_of(list_images([folder], text="x"), parse_rewards(["imagestats"]))
        assert [(row.image[-5:], row.reward) for row in rows] == [
            (f"{place}.png", f"imagestats.{name}@1") for place in range(3) for name in ("dark", "edges", "colours")
        ]
        first = rows[3]
        assert (first.score, first.detail, first.status) == (0.25, "1 of 4 pixels", "ok")
        assert first.image == str(folder / "1.png")
        assert first.image_sha == hashlib.sha256((folder / "1.png").read_bytes()).hexdigest()
        assert (first.prompt, first.prompt_id, first.run, first.suite) == ("x", Prompt("x").id, "pictures", "")

    def test_what_cannot_be_scored_is_a_row_and_spoils_no_other(self, folder):
        draw(folder / "a.png", dark=1)
        whole = draw(folder / "b.png").read_bytes()
        (folder / "b.png").write_bytes(whole[: len(whole) // 2])
        (folder / "c.png").mkdir()
        (folder / "e.png").touch()
        rows = rows_of([*list_images([folder]), *list_images([folder / "d.png"])])
        assert [(row.status, row.score) for row in rows] == [
            ("ok", 0.25),
            ("failed", None),
            ("failed", None),
            ("failed", None),
            ("missing", None),
        ]
        no_image = "the image is no PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF or PPM, or damaged from the start"
        assert [row.detail for row in rows[1:]] == [
            no_image,
            "the image file cannot be read (Is a directory)",
            no_image,
            f"there is no image {folder / 'd.png'}",
        ]

    def test_failing_engine_is_a_row_with_its_reason(self, folder, monkeypatch):
        for name in ("a", "b"):
            draw(folder / f"{name}.png")

        def fail(self, pixels):
            raise RuntimeError("out of memory")

        monkeypatch.setattr("rewards.imagestats.reward.EdgeDensity.measure", fail)
        rows = rows_of(list_images([folder]), parse_rewards(["imagestats"]))
        assert [row.status for row in rows] == ["ok", "failed", "ok"] * 2
        assert rows[1].detail == "RuntimeError: out of memory"

    def test_many_files_come_in_order_and_workers_change_nothing(self, folder):
        count = 2 * FILES + 3
        for place in range(count):
            draw(folder / f"{place:03d}.png", dark=place % 5)
        entries = list_images([folder])
        batches = score(entries)
        assert [len(batch) for batch in batches] == [FILES, FILES, 3]
        rows = [row for batch in batches for row in batch]
        assert [row.score for row in rows] == [place % 5 / 4 for place in range(count)]
        others = rows_of(entries, workers=2)
        assert [replace(row, seconds=0) for row in others] == [replace(row, seconds=0) for row in rows]

    def test_file_in_several_rows_is_read_once_and_judged_under_each(self, folder, monkeypatch):
        from benchmarks.harness import reading as module

        draw(folder / "a.png")
        draw(folder / "b.png", dark=2)
        lines = [f"{name}.png,prompt {number}" for number in range(3) for name in ("a", "b")]
        (folder / "metadata.csv").write_text("\n".join(["file_name,prompt", *lines]))
        read, lock = [], threading.Lock()
        image_from = module.image_from

        def remember(give, name):
            with lock:
                read.append(os.path.basename(name))
            return image_from(give, name)

        monkeypatch.setattr(module, "image_from", remember)
        rows = rows_of(list_images([folder]))
        assert sorted(read) == ["a.png", "b.png"]
        assert [(os.path.basename(row.image), row.prompt, row.score) for row in rows] == [
            (f"{name}.png", f"prompt {number}", dark) for name, dark in (("a", 0), ("b", 0.5)) for number in range(3)
        ]

    def test_files_are_read_ahead_by_a_bounded_number(self, folder, monkeypatch):
        from benchmarks.harness import reading as module

        for place in range(8 * FILES):
            draw(folder / f"{place:03d}.png")
        read, image_from = [], module.image_from
        monkeypatch.setattr(module, "image_from", lambda give, name: read.append(name) or image_from(give, name))
        batches = score_images(list_images([folder]), pool := ScoringPool(DARK, 0))
        with pool:
            next(batches)
        assert FILES < len(read) <= 5 * FILES

    def test_tally_means_and_counts_by_hand(self, folder):
        draw(folder / "a.png", dark=1)
        draw(folder / "b.png", dark=4)
        (folder / "c.png").write_text("no image")
        tally = Tally(["imagestats.dark@1"])
        tally.add(rows_of(list_images([folder])))
        assert tally.mean("imagestats.dark@1") == 0.625
        assert (tally.scored["imagestats.dark@1"], tally.failures["imagestats.dark@1"], len(tally.failed)) == (2, 1, 1)
        assert Tally(["x@1"]).mean("x@1") is None


class TestDraft:
    @pytest.fixture
    def entries(self, folder):
        for place in range(2 * FILES):
            draw(folder / f"{place:03d}.png", dark=place % 5)
        return list_images([folder])

    def begin(self, tmp_path, specs=DARK):
        return Draft(tmp_path / "out" / "scores.csv", tell_facts(build(specs)))

    def test_finished_file_has_every_row_and_no_draft_beside_it(self, entries, tmp_path):
        draft = self.begin(tmp_path)
        rows = rows_of(entries)
        draft.add(rows)
        assert not draft.output.exists()
        draft.finish(rows)
        assert os.listdir(tmp_path / "out") == ["scores.csv"]
        table = load_scores(tmp_path / "out")
        assert list(table.columns) == list(COLUMNS)
        assert table["score"].tolist() == [row.score for row in rows]

    def test_rows_before_a_kill_are_there_and_are_not_made_again(self, entries, tmp_path, monkeypatch):
        first, second = score(entries)
        self.begin(tmp_path).add(first)  # and killed here
        with (tmp_path / "out" / "scores.csv.draft" / "scores.csv").open("a") as file:
            file.write("pictures,,,torn")
        judged = []
        measure = DarkShare.measure
        monkeypatch.setattr(
            "rewards.imagestats.reward.DarkShare.measure",
            lambda self, pixels: judged.append(1) or measure(self, pixels),
        )
        draft = self.begin(tmp_path)
        assert set(draft.known) == {key_of(row) for row in first}
        rows = rows_of(entries, known=draft.known)
        assert len(judged) == FILES
        assert rows[:FILES] == first
        assert [row.score for row in rows] == [row.score for row in first + second]

    def test_a_draft_of_parquet_goes_on_too(self, entries, tmp_path):
        first, _ = score(entries)
        Draft(tmp_path / "out" / "s.parquet", tell_facts(build(DARK))).add(first)  # and killed here
        draft = Draft(tmp_path / "out" / "s.parquet", tell_facts(build(DARK)))
        assert len(draft.known) == FILES
        rows = rows_of(entries, known=draft.known)
        assert rows[:FILES] == first
        draft.finish(rows)
        assert os.listdir(tmp_path / "out") == ["s.parquet"]
        assert read_scores(tmp_path / "out" / "s.parquet") == rows

    def test_changed_file_and_failed_score_are_made_again(self, folder, tmp_path):
        draw(folder / "a.png")
        (folder / "b.png").write_text("no image")
        entries = list_images([folder])
        draft = self.begin(tmp_path)
        draft.add(rows_of(entries))
        draw(folder / "a.png", dark=3)
        draw(folder / "b.png", dark=4)
        assert [row.score for row in rows_of(entries, known=draft.known)] == [0.75, 1.0]

    def test_draft_by_other_weights_is_dropped(self, entries, tmp_path, monkeypatch):
        with self.begin(tmp_path) as draft:
            draft.add(rows_of(entries))
        with self.begin(tmp_path) as again:
            assert not again.outdated
        monkeypatch.setattr("rewards.imagestats.reward.DarkShare.provenance", lambda self: {"engine": "another"})
        again = self.begin(tmp_path)
        assert again.outdated
        assert not again.known

    def test_a_second_command_is_told_of_the_first(self, entries, tmp_path):
        with self.begin(tmp_path) as first:
            with pytest.raises(UsageError, match=r"Another `dgpo score` is writing .*out/scores\.csv"):
                self.begin(tmp_path)
            first.add(rows_of(entries))
        with self.begin(tmp_path) as second:
            assert len(second.known) == len(entries)
            second.finish(rows_of(entries))
        assert os.listdir(tmp_path / "out") == ["scores.csv"]

    def test_what_is_not_ours_is_left_alone(self, tmp_path):
        path = tmp_path / "thesis.csv"
        path.write_text("precious\n")
        with pytest.raises(UsageError, match="is not a file of scores, and is left alone"):
            Draft(path, {})
        assert path.read_text() == "precious\n"
        with pytest.raises(UsageError, match="is a folder; --output takes a file"):
            Draft(tmp_path, {})

    def test_record_of_the_draft_is_json(self, tmp_path):
        draft = self.begin(tmp_path)
        assert json.loads((draft.folder / "run.json").read_text())["imagestats.dark@1"]["unit"] == "share of pixels"
