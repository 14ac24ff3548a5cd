"""Several processes at one evaluation: any number of them, dying at any point, gives what one gives."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from benchmarks.harness.evaluate import evaluate
from benchmarks.harness.request import Request
from benchmarks.harness.shares import Alone, deal, hold, hold_together
from benchmarks.harness.store import ScoreStore, read_rows
from benchmarks.harness.summary import Summary
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from tests.benchmarks.harness.test_evaluate import content, paint

SPECS = parse_rewards(["imagestats"])
PROMPTS = tuple(Prompt(f"thing {number}") for number in range(11))
SUITE = Suite("eleven", PROMPTS, "by hand")
SETTINGS = {"seeds": [0, 1], "specs": SPECS, "block": 2}


class Died(Exception):
    pass


class Board:
    """What the processes of one command know in common."""

    def __init__(self):
        self.change = threading.Condition()
        self.words = {}
        self.numbers = {"taken": 0, "finished": 0}
        self.over = False


class Threads:
    """Peers of one command, as threads of this process; when one dies, whoever waits for it is ended."""

    def __init__(self, board, rank, size):
        self.board, self.rank, self.size = board, rank, size

    def take(self):
        return self._add("taken", 1) - 1

    def count(self, finished):
        return self._add("finished", finished)

    def tell(self, what, words):
        with self.board.change:
            self.board.words[what] = words
            self.board.change.notify_all()

    def hear(self, what, meanwhile):
        with self.board.change:
            while what not in self.board.words:
                if self.board.over:
                    raise Died
                self.board.change.wait(0.05)
            return self.board.words[what]

    def _add(self, name, number):
        with self.board.change:
            self.board.numbers[name] += number
            return self.board.numbers[name]


def run_processes(folder, size, *, draw=None, suite=SUITE, **changes):
    """One command with `size` processes; `draw(rank, cells)`. Returns the main one's summary and all that was drawn."""
    board = Board()
    drawn = [[] for _ in range(size)]

    def work(rank):
        def draw_some(cells):
            images = (draw or (lambda _, asked: paint(asked)))(rank, cells)
            drawn[rank] += [cell.key for cell in cells]
            return images

        peers = Threads(board, rank, size)
        source = {} if "images" in changes else {"draw": draw_some}
        request = Request(suite, folder=folder, run_name="t", **{**SETTINGS, **source, **changes})
        try:
            with ScoringPool(request.specs, workers=0) as pool:
                return evaluate(request, pool=pool, peers=peers, on_note=lambda sentence: None)
        except BaseException:
            board.over = True
            raise

    with ThreadPoolExecutor(size) as threads:
        running = [threads.submit(work, rank) for rank in range(size)]
    failed = [error for error in (future.exception() for future in running) if error is not None]
    if failed:
        raise next((error for error in failed if not isinstance(error, Died)), failed[0])
    return cast(Summary, running[0].result()), drawn


def files(folder: Path) -> dict[str, bytes]:
    """Everything that has to be the same however the work was divided."""
    return {path.name: path.read_bytes() for path in [*folder.glob("images/*"), folder / "summary.csv"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "results"
    run_processes(folder, 1)
    return folder


@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_number_of_processes_gives_the_same_files(tmp_path, whole, size):
    folder = tmp_path / "results"

    def draw(rank, cells):
        time.sleep(0.01)
        return paint(cells)

    summary, drawn = run_processes(folder, size, draw=draw)
    assert sorted(key for keys in drawn for key in keys) == sorted({key for keys in drawn for key in keys})
    assert all(drawn)
    assert (summary.images, summary.failed) == (22, 0)
    assert content(folder) == content(whole)
    assert files(folder) == files(whole)
    assert not list(folder.glob("scores.part-*"))


def test_more_processes_than_blocks(tmp_path):
    suite = replace(SUITE, prompts=PROMPTS[:1])
    summary, drawn = run_processes(tmp_path / "r", 4, suite=suite)
    assert summary.images == 2
    assert sum(map(len, drawn)) == 2


def test_a_slow_process_gets_fewer_blocks_and_is_waited_for(tmp_path, whole):
    def draw(rank, cells):
        time.sleep(0.4 if rank == 1 else 0.02)
        return paint(cells)

    _, drawn = run_processes(tmp_path / "r", 2, draw=draw)
    assert 0 < len(drawn[1]) < len(drawn[0])
    assert content(tmp_path / "r") == content(whole)


@pytest.mark.parametrize("dying", [0, 1])
@pytest.mark.parametrize("then", [1, 2, 3])
def test_when_one_dies_what_is_finished_is_kept_and_any_number_goes_on(tmp_path, whole, dying, then):
    folder = tmp_path / "results"
    calls = []

    def draw(rank, cells):
        time.sleep(0.01)
        if rank == dying:
            calls.append(rank)
            if len(calls) == 3:
                raise Died("as if by kill -9")
        return paint(cells)

    with pytest.raises(Died):
        run_processes(folder, 2, draw=draw)
    finished = {row.key for row in read_rows(folder)}
    assert len(finished) >= 6  # of the first block of who died: two images by three scores
    _, drawn = run_processes(folder, then)
    kept = {(prompt, seed) for prompt, seed, _ in finished}
    assert kept.isdisjoint(key for keys in drawn for key in keys)
    assert content(folder) == content(whole)
    assert files(folder) == files(whole)
    assert not list(folder.glob("scores.part-*"))


@pytest.mark.parametrize("cut", [0, 50, 400, -1])
def test_parts_of_a_killed_command_are_merged_up_to_the_torn_row(tmp_path, whole, cut):
    """A part that ends in the middle of its header, of a row, or of the last byte; the rest is made again."""
    folder = tmp_path / "results"
    shutil.copytree(whole, folder)
    rows = read_rows(folder)
    store = ScoreStore(folder)
    store.rewrite(rows[:30])
    ScoreStore(folder, rank=1).append(rows[30:])
    part = folder / "scores.part-1.csv"
    part.write_bytes(part.read_bytes()[:cut])
    assert 30 <= len(read_rows(folder)) < len(rows)
    run_processes(folder, 1)
    assert content(folder) == content(whole)
    assert files(folder) == files(whole)
    assert not part.exists()


def test_notes_of_all_processes_are_told_once(tmp_path):
    folder = tmp_path / "results"
    run_processes(folder, 2)
    for path in sorted(folder.glob("images/*"))[:4]:
        path.write_bytes(b"broken")
    summary, _ = run_processes(folder, 2)
    assert len([sentence for sentence in summary.notes if "drawn again" in sentence]) == 4
    assert len(set(summary.notes)) == len(summary.notes)


def test_a_changed_image_found_by_another_process_loses_its_old_scores(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for prompt in PROMPTS:
        for seed in (0, 1):
            Image.new("RGB", (8, 8), (seed * 200, 0, 0)).save(images / f"{prompt.id}_{seed}.png")
    dark, edges = parse_rewards(["imagestats.dark"]), parse_rewards(["imagestats.edges"])
    run_processes(tmp_path / "r", 2, specs=[*dark, *edges], images=images)
    for path in images.iterdir():
        Image.new("RGB", (8, 8), (0, 255, 0)).save(path)
    summary, _ = run_processes(tmp_path / "r", 2, specs=dark, images=images)
    assert {row.reward for row in read_rows(tmp_path / "r")} == {"imagestats.dark@1"}
    assert any("22 scores of imagestats.edges@1 belonged to images that have changed" in note for note in summary.notes)


def test_every_number_is_dealt_once_to_one_who_is_alone():
    alone = Alone()
    assert list(deal("abc", alone)) == ["a", "b", "c"]
    assert list(deal("abc", alone)) == []
    assert (alone.count(2), alone.count(3)) == (2, 5)


def test_a_folder_admits_its_own_processes_and_refuses_another_command(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.harness.shares.PATIENCE_S", 0.0)
    with hold(tmp_path) as let_others_in:
        let_others_in()
        with (
            hold_together(tmp_path),
            pytest.raises(UsageError, match="Another process is evaluating into"),
            hold(tmp_path),
        ):
            pass
    with hold(tmp_path):
        pass


def test_a_command_waits_for_the_processes_of_one_that_was_just_killed(tmp_path):
    orphan = hold_together(tmp_path)
    orphan.__enter__()
    threading.Timer(0.3, lambda: orphan.__exit__(None, None, None)).start()
    start = time.monotonic()
    with hold(tmp_path):
        assert time.monotonic() - start >= 0.2
