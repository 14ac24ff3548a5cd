"""The whole evaluation on real rewards: resume after kill -9, amend, refuse, and failures that never become numbers."""

import json
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.evaluate import evaluate
from benchmarks.harness.record import read_record
from benchmarks.harness.request import Request
from benchmarks.harness.store import read_rows
from rewards import registry
from rewards.card import Card
from rewards.errors import UsageError
from rewards.kept_prompts import read_kept_prompts
from rewards.parse import parse_rewards, spec_from_json
from rewards.pool import Scored, ScoringPool
from rewards.prompt import Prompt

STATISTICS = ["imagestats.dark@1", "imagestats.edges@1", "imagestats.colours@1"]


def paint(cells):
    """Images that are functions of prompt and seed alone, as real starting noise is."""
    images = []
    for cell in cells:
        generator = np.random.default_rng([int(cell.prompt.id, 16), cell.seed])
        images.append(Image.fromarray(generator.integers(0, 256, size=(16, 24, 3), dtype=np.uint8)))
    return images


class Run:
    """Evaluates into one folder with the same settings again and again, and counts what was drawn and scored."""

    def __init__(self, suite, folder):
        self.suite, self.folder = suite, folder
        self.drawn = 0
        self.scored = 0
        self.keys = set()

    def __call__(self, rewards=("imagestats",), seeds=(0, 1), **changes):
        specs = parse_rewards(rewards)
        self.drawn = self.scored = 0
        self.keys = set()
        with ScoringPool(specs, workers=0) as pool:
            submit = pool.submit

            def counted(images, prompts, keys=None):
                self._count(images, keys)
                return submit(images, prompts, keys)

            pool.submit = counted
            heard = {name: changes.pop(name, lambda *words: None) for name in ("on_note", "on_progress")}
            settings = {"facts": {"model": "tiny", "sampler": {"steps": 10}}, "block": 2, **changes}
            source = {"draw": settings.pop("draw", self._draw), "run_name": settings.pop("run_name", "tiny")}
            request = Request(self.suite, specs, self.folder, seeds=seeds, **source, **settings)
            summary = evaluate(request, pool=pool, **heard)
            assert summary is not None
            return summary

    def _draw(self, cells):
        self.drawn += len(cells)
        return paint(cells)

    def _count(self, images, keys):
        self.scored += len(images)
        self.keys.update(keys)


@pytest.fixture
def run(suite, tmp_path):
    return Run(suite, tmp_path / "results")


def content(folder: Path) -> list:
    return [replace(row, seconds=None) for row in read_rows(folder)]


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_one_row_for_each_prompt_seed_and_reward(run, suite):
    progress = []
    summary = run(on_progress=lambda done, total: progress.append((done, total)))
    rows = read_rows(run.folder)
    assert [row.key for row in rows] == [
        (prompt.id, seed, reward) for prompt in suite.prompts for seed in (0, 1) for reward in STATISTICS
    ]
    assert all(row.status == "ok" and row.suite_sha == suite.sha256 for row in rows)
    assert (summary.images, summary.failed, run.drawn) == (6, 0, 6)
    assert progress == [(2, 6), (3, 6), (5, 6), (6, 6)]
    assert [row.reward for row in summary.rows] == STATISTICS
    assert [(row.prompts, row.seeds, row.domain) for row in summary.rows] == [(3, 2, "none")] * 3


def test_scores_are_those_of_the_images_on_disk(run, suite):
    run(["imagestats.dark"])
    reward = registry.load(parse_rewards(["imagestats.dark"])[0])
    for row in read_rows(run.folder):
        prompt = next(prompt for prompt in suite.prompts if prompt.id == row.prompt_id)
        with Image.open(run.folder / row.image) as image:
            assert reward.score([image], [prompt])[0].value == row.score


def test_the_prompts_are_there_before_the_first_image(run, suite):
    """And when a reward or prompts are added; a folder of before they were kept gets them."""
    seen = []

    def draw(cells):
        seen.append(read_kept_prompts(run.folder))
        return paint(cells)

    run(draw=draw)
    assert seen[0] == list(suite.prompts)
    (run.folder / "prompts.jsonl").unlink()
    run()
    assert read_kept_prompts(run.folder) == list(suite.prompts)
    run.suite = replace(suite, prompts=(*suite.prompts[::-1], Prompt("a cow", {"tag": "animals"})))
    run()
    assert read_kept_prompts(run.folder) == list(run.suite.prompts)


def test_run_json_says_what_made_the_scores(run, suite):
    run(["imagestats.dark"], trained_on=["ocr@1"], facts={"model": "tiny", "sampler": None, "packages": {"a": "1"}})
    found = record(run.folder)
    assert found["suite"] == {"name": "small", "sha256": suite.sha256, "source": "by hand", "prompts": 3}
    assert (found["seeds"], found["trained_on"], found["packages"], found["finished"]) == (
        [0, 1], ["ocr@1"], {"a": "1"}, True,
    )  # fmt: skip
    reward = found["rewards"]["imagestats.dark@1"]
    assert (reward["unit"], reward["higher_is_better"], reward["train_scale"]) == ("share of pixels", None, 1.0)
    assert reward["provenance"]["engine"] == "numpy"
    assert spec_from_json(reward["spec"]).key == "imagestats.dark@1"


def test_the_same_command_again_makes_nothing(run):
    run()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    run()
    assert (run.drawn, run.scored) == (0, 0)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_seeds_and_rewards_amend(run, suite, tmp_path):
    run(["imagestats.dark"], seeds=[0])
    run(["imagestats.dark"], seeds=[0, 1])
    assert (run.drawn, run.scored) == (3, 3)
    summary = run(["imagestats.edges", "imagestats.dark"], seeds=[0, 1])
    assert (run.drawn, run.scored, run.keys) == (0, 6, {"imagestats.edges@1"})
    assert [(row.reward, row.seeds) for row in summary.rows] == [("imagestats.dark@1", 2), ("imagestats.edges@1", 2)]
    whole = Run(suite, tmp_path / "at_once")
    whole(["imagestats.dark", "imagestats.edges"], seeds=[0, 1])
    assert content(run.folder) == content(whole.folder)
    assert record(run.folder)["seeds"] == [0, 1]
    assert (run.folder / "summary.csv").read_bytes() == (whole.folder / "summary.csv").read_bytes()


def test_fewer_seeds_later_lose_nothing(run):
    run(seeds=[0, 1])
    summary = run(seeds=[0])
    assert summary.images == 3
    assert {row.seeds for row in summary.rows} == {2}


def test_killed_and_continued_equals_uninterrupted(run, suite, tmp_path):
    """kill -9 while the third block is drawn: at least one block's scores and two blocks' images are on disk."""
    code = f"""
        import os, signal, sys
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from pathlib import Path
        from benchmarks.suite import Suite
        from rewards.prompt import Prompt
        import test_evaluate

        suite = Suite("small", tuple(map(Prompt, {[prompt.text for prompt in suite.prompts]!r})), "by hand")
        run = test_evaluate.Run(suite, Path({str(run.folder)!r}))
        calls = []

        def draw(cells):
            calls.append(cells)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return test_evaluate.paint(cells)

        run(draw=draw)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert 0 < len(read_rows(run.folder)) < 18
    assert not record(run.folder)["finished"]
    scores = run.folder / "scores.csv"
    scores.write_bytes(scores.read_bytes()[:-7])  # and the last write was torn
    summary = run()
    assert run.drawn == 4  # the second block too: no score says that its image is whole
    assert any("half-written row" in sentence for sentence in summary.notes)
    whole = Run(suite, tmp_path / "whole")
    whole()
    assert content(run.folder) == content(whole.folder)
    assert (run.folder / "summary.csv").read_bytes() == (whole.folder / "summary.csv").read_bytes()


def test_a_damaged_image_is_made_again_without_new_scores(run):
    run()
    before = content(run.folder)
    path = run.folder / read_rows(run.folder)[0].image
    path.write_bytes(path.read_bytes()[:40])
    summary = run()
    assert (run.drawn, run.scored) == (2, 0)  # a block is drawn as a whole
    assert "drawn again" in summary.notes[0]
    assert content(run.folder) == before


def test_scores_of_an_image_that_changed_are_not_kept(run, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    run(["imagestats.dark", "imagestats.edges"], seeds=[0])
    for row in read_rows(run.folder):
        (images / Path(row.image).name).write_bytes((run.folder / row.image).read_bytes())
    run.folder = tmp_path / "foreign"
    run(["imagestats.dark", "imagestats.edges"], seeds=[0], draw=None, images=images)
    changed = sorted(images.iterdir())[0]
    Image.new("RGB", (8, 8)).save(changed)
    summary = run(["imagestats.dark"], seeds=[0], draw=None, images=images)
    rows = read_rows(run.folder)
    assert run.scored == 1
    assert [row.score for row in rows if Path(row.image).name == changed.name] == [1.0]
    assert len(rows) == 5
    assert "1 scores of imagestats.edges@1 belonged to images that have changed" in summary.notes[0]


def drawn_in(dtype):
    sampler = {"steps": 10} if dtype is None else {"steps": 10, "dtype": dtype}
    return {"model": "tiny", "sampler": sampler, "precision": {"dtype": dtype, "reason": "as asked"}}


def test_another_precision_is_refused_with_how_to_go_on(run):
    run(facts=drawn_in("fp32"))
    before = content(run.folder)
    with pytest.raises(UsageError, match=r"its images are drawn in fp32, and this run's in bf16.*--dtype fp32"):
        run(facts=drawn_in("bf16"))
    assert run.drawn == 0
    assert content(run.folder) == before


def test_a_precision_that_was_not_recorded_is_not_made_up(run):
    """An older folder is amended; in what its images were drawn stays unknown."""
    run(facts={"model": "tiny", "sampler": {"steps": 10}})
    run(["imagestats.edges"], facts=drawn_in("bf16"))
    assert run.drawn == 0
    record = read_record(run.folder)
    assert record["sampler"] == {"steps": 10}
    assert record["precision"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facts": {"model": "other", "sampler": {"steps": 10}}}, "its model is tiny, and this run's is other"),
        ({"facts": {"model": "tiny", "sampler": {"steps": 20}}}, r'sampler is {"steps": 10}, .* {"steps": 20}'),
        ({"run_name": "tiny@300"}, "its name is tiny, and this run's is tiny@300"),
    ],
)  # fmt: skip
def test_another_runs_folder_is_refused(run, changes, words):
    run()
    before = content(run.folder)
    with pytest.raises(UsageError, match=words) as error:
        run(**changes)
    assert error.value.exit_code == 2
    assert run.drawn == 0
    assert content(run.folder) == before


def test_another_suite_is_refused(run, suite):
    run()
    run.suite = replace(suite, prompts=suite.prompts[:2])
    with pytest.raises(UsageError, match=r"its suite is small \(.{12}\), and this run's is small \(.{12}\)"):
        run()


def test_prompts_amend(run, suite):
    """New prompts at the end and in between: what was drawn and scored stays, and says of which suite it is now."""
    run(seeds=[0])
    before = {row.key: row.score for row in content(run.folder)}
    first, *rest = suite.prompts
    run.suite = replace(suite, prompts=(first, Prompt("a new one"), *rest, Prompt("a last one")))
    summary = run(seeds=[0])
    assert run.scored == 2
    assert any("other prompts than before (3 then, 5 now)" in sentence for sentence in summary.notes)
    rows = content(run.folder)
    assert len(rows) == 5 * 3
    assert {row.suite_sha for row in rows} == {run.suite.sha256} == {record(run.folder)["suite"]["sha256"]}
    assert before.items() <= {row.key: row.score for row in rows}.items()
    run.suite = suite
    with pytest.raises(UsageError, match="holds the results of another run: its suite"):
        run(seeds=[0])


def test_two_commands_at_once_are_refused(run, monkeypatch):
    monkeypatch.setattr("benchmarks.harness.shares.PATIENCE_S", 0.0)

    def draw(cells):
        with pytest.raises(UsageError, match="Another process is evaluating into"):
            run(seeds=[0])
        return paint(cells)

    Run.__call__(run, seeds=[0], draw=draw)
    assert len(content(run.folder)) == 9


def test_folders_of_something_else_are_refused(run):
    run.folder.mkdir()
    (run.folder / "run.json").write_text('{"kind": "training"}')
    with pytest.raises(UsageError, match="not a folder of evaluation results"):
        run()
    (run.folder / "run.json").unlink()
    (run.folder / "scores.csv").write_text("")
    with pytest.raises(UsageError, match=r"holds scores\.csv but no run\.json"):
        run()


def test_a_new_engine_scores_everything_again(run, monkeypatch):
    run()
    before = content(run.folder)
    monkeypatch.setattr("rewards.imagestats.reward.DarkShare.provenance", lambda self: {"engine": "numpy 99"})
    summary = run()
    assert (run.drawn, run.scored) == (0, 6)
    assert len(summary.notes) == 1
    assert "imagestats.dark@1 is now scored by" in summary.notes[0]
    assert content(run.folder) == before


def test_missing_images_are_rows_and_counted(run, suite, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (8, 8)).save(images / f"{suite.prompts[1].id}_0.png")
    (images / f"{suite.prompts[2].id}_0.png").write_bytes(b"not an image")
    summary = run(["imagestats.dark"], seeds=[0], draw=None, images=images)
    assert [(row.status, row.score) for row in read_rows(run.folder)] == [
        ("missing", None), ("ok", 1.0), ("failed", None),
    ]  # fmt: skip
    assert (summary.images, summary.failed) == (3, 2)
    assert (summary.rows[0].mean, summary.rows[0].prompts, summary.rows[0].failed) == (1.0, 1, 2)
    assert any("there is no image" in reason for reason in summary.reasons)
    paint_missing = images / f"{suite.prompts[0].id}_0.png"
    Image.new("RGB", (8, 8), (255, 255, 255)).save(paint_missing)
    assert run(["imagestats.dark"], seeds=[0], draw=None, images=images).failed == 1


def test_when_nothing_could_be_scored_there_is_no_mean(run):
    summary = run(["imagestats.dark"], draw=lambda cells: ["it is not finite"] * len(cells))
    assert summary.failed == 6
    assert summary.rows[0].mean is None
    assert summary.notes == ("imagestats.dark@1: none of 6 images could be scored, so there is no mean.",)
    assert (run.folder / "summary.csv").read_text().splitlines()[1].endswith(",0,0,6,,,,,none")


FRAGILE = """
from rewards.errors import ScoringError, UsageError
from rewards.reward import Reward
from rewards.score import Score

class Fragile(Reward):
    def check(self, prompt):
        if "horse" in prompt.text:
            raise UsageError(f'"{prompt.text}" has a horse in it')

    def score(self, images, prompts):
        if any(image.getpixel((0, 0)) == (0, 0, 0) for image in images):
            raise ScoringError("the engine cannot see black images")
        reds = [image.getpixel((0, 0))[0] / 255 for image in images]
        return [Score(red, f"red of {prompt.text}") for red, prompt in zip(reds, prompts)]

    def provenance(self):
        return {"engine": "fragile"}
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """A reward that refuses horses, and whose engine fails on black images."""
    (tmp_path / "fragile_engine.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    card = Card(
        name="fragile",
        version=1,
        unit="share",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        summary="red of the first pixel",
        entry="fragile_engine:Fragile",
    )
    monkeypatch.setattr(registry, "CARDS", (*registry.CARDS, card))


@pytest.mark.usefixtures("fragile")
def test_an_engine_that_fails_gives_failed_rows_and_another_try(run):
    def draw(cells):
        return [Image.new("RGB", (8, 8), (0 if "dog" in cell.prompt.text else 51, 0, 0)) for cell in cells]

    summary = run(["fragile", "imagestats.dark"], seeds=[0], draw=draw)
    rows = {(row.prompt, row.reward): row for row in read_rows(run.folder)}
    failed = rows["a dog", "fragile@1"]
    assert (failed.status, failed.score) == ("failed", None)
    assert "the engine cannot see black images" in failed.detail
    assert rows["a cat", "fragile@1"].score == 0.2
    assert rows["a cat", "fragile@1"].detail == "red of a cat"
    assert rows["a dog", "imagestats.dark@1"].score == 1.0
    assert (summary.failed, summary.reasons) == (1, {failed.detail: 1})
    assert [(row.mean, row.failed) for row in summary.rows] == [(pytest.approx(0.2), 1), (pytest.approx(1.0), 0)]
    run(["fragile", "imagestats.dark"], seeds=[0], draw=draw)
    assert (run.drawn, run.scored) == (0, 1)  # only the failed one is tried again


@pytest.mark.usefixtures("fragile")
def test_every_unfit_prompt_is_named_before_anything_is_drawn(run, suite):
    run.suite = replace(suite, prompts=(*suite.prompts, *(Prompt(f"horse {number}") for number in range(12))))
    with pytest.raises(UsageError) as error:
        run(["fragile", "imagestats.dark"])
    message = str(error.value)
    assert "fragile@1 cannot judge 12 of 15 prompts" in message
    assert '"horse 0" has a horse in it' in message
    assert "and 2 more" in message
    assert run.drawn == 0
    assert not run.folder.exists()


def test_drawbench_with_the_ocr_reward_is_refused_at_once(run, data_dir):
    pytest.importorskip("rapidocr")
    from benchmarks.suites import load_suite

    run.suite = load_suite("drawbench", data_dir=data_dir)
    with pytest.raises(UsageError, match=r"ocr@1 cannot judge \d+ of 200 prompts"):
        run(["ocr"])
    assert not run.folder.exists()


def test_every_prompt_of_the_ocr_suite_can_be_judged(data_dir):
    pytest.importorskip("rapidocr")
    from benchmarks.harness.requirements import check_prompts
    from benchmarks.suites import load_suite

    suite = load_suite("ocr", data_dir=data_dir)
    with ScoringPool(parse_rewards(suite.default_rewards), workers=0) as pool:
        check_prompts(suite, pool)


def test_wrong_requests_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match="either a model that draws or a folder of images"):
        run(images=tmp_path)
    with pytest.raises(UsageError, match="No reward was named"):
        run([])
    with pytest.raises(UsageError, match="at least 1"):
        run(seeds=[])
    with pytest.raises(UsageError, match="given twice"):
        run(seeds=[1, 1])
    assert not run.folder.exists()


def test_a_block_is_drawn_while_the_one_before_is_scored(suite, tmp_path):
    """The first block's scores are only asked for after the second block was drawn."""
    events = []

    class Waiting(Future):
        def result(self, timeout=None):
            events.append("collect")
            return super().result(timeout)

    class SlowPool(ScoringPool):
        def submit(self, images, prompts, keys=None):
            events.append("submit")
            future = Waiting()
            scored: Scored = super().submit(images, prompts, keys).result()
            future.set_result(scored)
            return future

    specs = parse_rewards(["imagestats.dark"])
    with SlowPool(specs, workers=0) as pool:

        def draw(cells):
            events.append("draw")
            return paint(cells)

        evaluate(Request(suite, specs, tmp_path / "r", "t", draw=draw, block=1), pool=pool)
    assert events == [
        "draw", "submit", "draw", "submit", "collect", "draw", "submit", "collect", "collect",
    ]  # fmt: skip


def test_worker_processes_give_the_same_scores(run, suite, tmp_path):
    run()
    specs = parse_rewards(["imagestats"])
    with ScoringPool(specs, workers=1) as pool:
        evaluate(Request(suite, specs, tmp_path / "workers", "tiny", seeds=[0, 1], draw=paint), pool=pool)
    assert content(tmp_path / "workers") == content(run.folder)


@pytest.mark.parametrize(("old", "new", "what"), [(None, "a horse", "prompt"), ("imagestats.dark@1", "x@1", "reward")])
def test_a_row_that_is_not_of_this_run_is_refused_before_anything_is_drawn(run, suite, old, new, what):
    run(seeds=(0,))
    path = run.folder / "scores.csv"
    old, new = old or suite.prompts[0].id, new if old else Prompt(new).id
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=f"holds a row of a {what} that this run does not have .*{new}"):
        run(seeds=(0, 1))
    assert run.drawn == 0


KILLER = """
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import DEADLY, Score

class Killer(Reward):
    card = Card(name="killer", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="as if it had died")

    def score(self, images, prompts):
        return [Score.failed(f"{DEADLY} (a crash)") for _ in images]
"""


def test_an_image_that_killed_the_scoring_process_is_tried_again_only_without_its_row(run, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    rewards = [f"{tmp_path}/killer.py:Killer"]
    first = run(rewards)
    images = run.scored
    assert first.failed == images > 0
    assert f"{images} scores are missing because scoring the image killed the process" in " ".join(first.notes)
    again = run(rewards)
    assert (run.scored, again.failed) == (0, images)
    scores = run.folder / "scores.csv"
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:-1]))
    run(rewards)
    assert run.scored == 1
