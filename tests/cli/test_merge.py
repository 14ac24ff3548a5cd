"""Shards of `dgpo score`, joined by the real command to what one command writes, or refused."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.commands import app
from tests.benchmarks.stored_images import draw, write_everywhere

IMAGES = draw(12)
IMAGES[5] = IMAGES[5][:60]
PROMPTS = [f'a sign that says "word{place % 3}"' for place in range(12)]
FAILS = 5


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def score(run):
    def score(*words, code=FAILS):
        done = run("score", "--reward", "imagestats", "--workers", "0", *words)
        assert done.exit_code == code, done.stderr
        return done

    return score


@pytest.fixture
def sources(tmp_path):
    return write_everywhere(tmp_path / "pictures", IMAGES, PROMPTS)


def without_seconds(path):
    """The bytes of a CSV file, with the time of each row blotted out."""
    return re.sub(rb"[^,]*\n", b"SECONDS\n", Path(path).read_bytes())


@pytest.mark.parametrize("kind", ["folder/pictures", "table/pictures/a.parquet", "tar/pictures"])
@pytest.mark.parametrize("count", [1, 3, 15])
def test_shards_are_merged_to_what_one_command_writes(run, score, sources, kind, count):
    score("--images", sources / kind, "--output", "whole.csv")
    names = []
    for number in range(count, 0, -1):
        names.append(f"s-{number}.{'parquet' if number % 2 else 'csv'}")
        words = ["--images", sources / kind, "--output", names[-1], "--shard", f"{number}/{count}"]
        done = run("score", "--reward", "imagestats", "--workers", "0", *words)
        assert done.exit_code in (0, FAILS), done.stderr
        assert f"shard {number}/{count}: " in done.stderr
    done = run("merge", *names, "--output", "merged.csv")
    assert done.exit_code == 0, done.stderr
    assert f"{count} shards, 12 images, 1 of them without a score" in done.stderr
    assert without_seconds("merged.csv") == without_seconds("whole.csv")
    assert run("merge", *names, "--output", "merged.parquet").exit_code == 0
    assert run("merge", *names, "--output", "again.parquet").exit_code == 0
    assert Path("merged.parquet").read_bytes() == Path("again.parquet").read_bytes()


def test_the_document_says_which_part_it_is(run, sources):
    words = ["score", "--reward", "imagestats", "--workers", "0", "--images", sources / "tar/pictures", "--json"]
    assert json.loads(run(*words).stdout)["shard"] is None
    document = json.loads(run(*words, "--shard", "1/3", "--output", "s.csv").stdout)
    assert (document["shard"], document["images"], document["failed"]) == ("1/3", 4, 0)


class TestRefusals:
    @pytest.fixture
    def shards(self, score, sources):
        def shards(count=4, folder="shards", words=(), source="folder/pictures", output="{number}.csv"):
            Path(folder).mkdir(exist_ok=True)
            names = []
            for number in range(1, count + 1):
                names.append(f"{folder}/{output.format(number=number)}")
                words_ = ["--images", sources / source, "--shard", f"{number}/{count}", "--output", names[-1], *words]
                score(*words_, "--max-failed", 9, code=0)
            return names

        return shards

    def refused(self, run, names, said):
        done = run("merge", *names, "--output", "merged.csv")
        assert done.exit_code == 2, done.stderr
        assert re.search(said, done.stderr), done.stderr
        assert not Path("merged.csv").exists()

    def test_holes_and_twins(self, run, shards):
        one, two, three, four = shards()
        self.refused(run, [one, two, four], r"3 of 4 is missing\. Nothing was written")
        self.refused(run, [two], "1, 3 and 4 of 4 are missing")
        self.refused(run, [one, two, three, four, two], r"Shard 2/4 is there twice, as shards/2\.csv and shards/2\.csv")
        Path("copy.csv").write_bytes(Path(three).read_bytes())
        self.refused(run, [one, two, three, four, "copy.csv"], r"copy\.csv is no shard: copy\.csv\.shard\.json")
        Path("copy.csv.shard.json").write_bytes(Path(f"{three}.shard.json").read_bytes())
        self.refused(run, [one, two, three, four, "copy.csv"], r"Shard 3/4 is there twice, as shards/3\.csv and copy")

    def test_parts_of_something_else(self, run, shards, sources):
        one, two, three, _four = shards()
        (*_, other) = shards(3, "thirds")
        self.refused(run, [one, two, three, other], "not parts of the same work: the one is 1/4, the other 3/3")
        (*_, other) = shards(4, "tables", source="table/pictures")
        self.refused(run, [one, two, three, other], "cut from other images, prompts, seeds or paths")
        (*_, other) = shards(4, "rewards", words=["--reward", "ocr"])
        self.refused(run, [one, two, three, other], r"by imagestats\.dark@1, .*the other by .*ocr@1")
        (sources / "folder" / "pictures" / "metadata.csv").write_text("file_name,prompt\n000.png,a\n")
        (*_, other) = shards(4, "fewer")
        self.refused(run, [one, two, three, other], r"other images, .* \(12 there, 1 here\)")

    def test_other_weights(self, run, shards):
        one, two, three, four = shards()
        path = Path(f"{four}.shard.json")
        record = json.loads(path.read_text())
        record["rewards"]["imagestats.dark@1"]["provenance"]["weights"] = "contents:f00"
        path.write_text(json.dumps(record))
        self.refused(
            run, [one, two, three, four], "imagestats.dark@1 had the weights none in the one, and contents:f00"
        )

    def test_which_of_equal_devices_scored_is_no_difference(self, run, shards):
        names = shards(2)
        for number, name in enumerate(names):
            path = Path(f"{name}.shard.json")
            record = json.loads(path.read_text())
            record["rewards"]["imagestats.dark@1"]["provenance"]["device"] = f"cuda:{number}"
            path.write_text(json.dumps(record))
        assert run("merge", *names, "--output", "merged.csv").exit_code == 0

    def test_a_file_that_was_changed_and_an_output_that_is_none(self, run, shards):
        one, two = shards(2)
        self.refused(run, ["gone.csv", two], r"There is no file gone\.csv")
        done = run("merge", one, two, "--output", two)
        assert done.exit_code == 2
        assert "is one of the shards" in done.stderr
        Path(two).write_text(Path(two).read_text().replace("ok", "OK"))
        self.refused(run, [one, two], r"shards/2\.csv is not the file that 2\.csv\.shard\.json was written for")

    def test_a_link_is_as_good_as_its_file(self, run, shards):
        Path("disk").mkdir()
        Path("shards").mkdir()
        for number in (1, 2):
            Path(f"shards/{number}.csv").symlink_to(f"../disk/{number}.csv")
        names = shards(2)
        assert run("merge", *names, "--output", "merged.csv").exit_code == 0
        assert sorted(path.name for path in Path("shards").iterdir()) == ["1.csv", "2.csv"]

    def test_a_whole_file_is_no_shard_any_more(self, run, shards, score, sources):
        one, two = shards(2)
        score("--images", sources / "folder" / "pictures", "--output", two)
        self.refused(run, [one, two], "is no shard")

    @pytest.mark.parametrize("output", [[], ["--output", "/dev/null"]])
    def test_a_shard_needs_a_file(self, score, sources, output):
        done = score("--images", sources / "tar" / "pictures", "--shard", "1/2", *output, code=2)
        assert "--shard needs --output FILE" in done.stderr
