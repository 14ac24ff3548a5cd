import io
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from PIL import Image

from rewards.errors import ScoringError, UsageError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool, score_batch
from rewards.prompt import Prompt
from rewards.registry import card_of
from rewards.reward import Reward
from rewards.score import Score
from rewards.scoring.reward_faults import RewardBroken

WORDS = ("ANCHOR", "basket", "COFFEE", "dragon")


@pytest.fixture(scope="module")
def batch(word_image):
    images = [word_image(word, look=look) for look, word in enumerate(WORDS)]
    return images, [Prompt(f'a sign "{word}"') for word in WORDS]


def png_file(image, share=1.0):
    """The image as a file that is opened but not yet decoded, cut off after a share of its bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    return Image.open(io.BytesIO(data[: int(len(data) * share)]))


def broken_png(image):
    return png_file(image, share=0.5)


class Faulty(Reward):
    """A reward that judges by the prompt's text, and fails in the way that text names."""

    file = __file__  # as rewards.scoring.plugin_reward has it

    def __init__(self):
        (spec,) = parse_rewards(["ocr"])
        super().__init__(spec, card_of(spec))

    def score(self, images, prompts):
        return [self.judge(prompt.text) for prompt in prompts]

    def judge(self, text):
        if text == "engine":
            raise ScoringError("engine broke")
        if text == "runtime":
            raise RuntimeError("session lost")
        if text == "bug":
            raise TypeError("a bug")
        return Score(float(text))


def judge_words(*texts):
    images = [Image.new("RGB", (2, 2))] * len(texts)
    return score_batch({"x": Faulty()}, images, [Prompt(text) for text in texts]).scores["x"]


def test_an_exception_fails_the_guilty_image_only():
    scores = judge_words("0.5", "engine", "0.25", "runtime")
    assert [score.value for score in scores] == [0.5, None, 0.25, None]
    assert scores[1].reason == "ScoringError: engine broke"
    assert re.fullmatch(r"RuntimeError: session lost \(test_pool.py, line \d+\)", scores[3].reason)


def test_nan_and_infinity_are_failures():
    scores = judge_words("nan", "1", "inf")
    assert [score.value for score in scores] == [None, 1.0, None]
    assert "nan" in scores[0].reason
    assert math.isfinite(scores[1].value or math.nan)


def test_a_bug_is_told_with_its_place():
    with pytest.raises(RewardBroken, match=r"The reward x broke off: TypeError: a bug \(test_pool.py, line \d+\)"):
        judge_words("0.5", "bug")


def test_an_image_that_cannot_be_decoded_fails_where_it_stands(batch):
    images, prompts = batch
    specs = parse_rewards(["imagestats"])
    with ScoringPool(specs, workers=0) as pool:
        whole = pool.submit(images, prompts).result()
        spoilt = pool.submit([images[0], broken_png(images[1]), *images[2:]], prompts).result()
    for key, scores in spoilt.scores.items():
        assert scores[1].value is None
        assert "cannot be decoded" in scores[1].reason
        assert [scores[0], *scores[2:]] == [whole.scores[key][0], *whole.scores[key][2:]]


def test_an_empty_batch_has_no_scores():
    scored = score_batch({"x": Faulty()}, [], [])
    assert scored.scores == {"x": []}


def test_two_workers_score_as_none_do(batch):
    specs = parse_rewards(["ocr", "ocr-strict", "imagestats"])
    images, prompts = batch
    results = []
    for workers in (0, 2):
        spoilt = [broken_png(images[0]), png_file(images[1]), *images[2:]]
        with ScoringPool(specs, workers) as pool:
            futures = [pool.submit(images, prompts), pool.submit(spoilt, prompts), pool.submit(images[::-1], prompts)]
            results.append([future.result() for future in futures])
    for here, there in zip(*results, strict=True):
        assert here.scores == there.scores
        assert set(there.seconds) == {spec.key for spec in specs}
        assert all(seconds > 0 for seconds in there.seconds.values())
    assert [score.value for score in results[1][0].scores["ocr@1"]] == [1.0] * 4
    assert [score.value for score in results[1][1].scores["ocr@1"]] == [None, 1.0, 1.0, 1.0]


def test_submit_returns_before_the_scores_are_there(batch):
    with ScoringPool(parse_rewards(["ocr"]), workers=1) as pool:
        start = time.perf_counter()
        futures = [pool.submit(*batch) for _ in range(3)]
        submitted = time.perf_counter() - start
        assert not futures[-1].done()
        assert len({tuple(future.result().scores["ocr@1"]) for future in futures}) == 1
        assert submitted < (time.perf_counter() - start) / 2


def test_wrong_use_reaches_whoever_waits(batch):
    with ScoringPool(parse_rewards(["ocr"]), workers=1) as pool:
        future = pool.submit(batch[0][:1], [Prompt("no quotes here")])
        with pytest.raises(UsageError, match="no quotes here"):
            future.result()
        assert pool.submit(*batch).result().scores["ocr@1"][0].ok


def test_a_pool_that_is_not_open_says_so(batch):
    with pytest.raises(RuntimeError, match="with statement"):
        ScoringPool(parse_rewards(["imagestats"]), workers=1).submit(*batch)


THREADS = """
import os
from rewards.card import Card
from rewards.reward import Reward
from rewards.reward import Reward
from rewards.score import Score

class Threads(Reward):
    card = Card(name="threads", version=1, unit="threads", bounds=(0, None), higher_is_better=True, summary="threads")

    def score(self, images, prompts):
        import torch

        return [Score(torch.get_num_threads(), os.environ["OMP_NUM_THREADS"])] * len(images)
"""


@pytest.mark.parametrize(("given", "expected"), [((), 1), ((2,), 2)])
def test_a_worker_computes_with_the_threads_it_is_given(tmp_path, given, expected):
    (tmp_path / "threads.py").write_text(THREADS)
    with ScoringPool(parse_rewards([f"{tmp_path}/threads.py:Threads"]), 1, *given) as pool:
        (score,) = pool.submit([Image.new("RGB", (2, 2))], [Prompt("x")]).result().scores["threads@1"]
    assert (score.value, score.detail) == (min(expected, len(os.sched_getaffinity(0))), str(expected))


def test_only_the_wanted_rewards_are_asked(batch):
    with ScoringPool(parse_rewards(["imagestats"]), workers=0) as pool:
        whole = pool.submit(*batch).result().scores
        some = pool.submit(*batch, keys=["imagestats.edges@1", "imagestats.dark@1"]).result()
    assert list(some.scores) == list(some.seconds) == ["imagestats.dark@1", "imagestats.edges@1"]
    assert some.scores == {key: whole[key] for key in some.scores}


def test_a_part_of_a_pool_scores_by_some_and_refuses_what_the_pool_does_not(batch):
    specs = parse_rewards(["imagestats"])
    with ScoringPool(specs[1:], workers=0) as pool:
        part = pool.limited_to(specs[2:])
        assert list(part.submit(*batch).result().scores) == list(part.facts()) == [specs[2].key]
        assert list(pool.facts()) == [spec.key for spec in specs[1:]]
        with pytest.raises(UsageError, match=r"opened without imagestats\.dark@1"):
            pool.limited_to(specs)


class Meeting(Faulty):
    """A reward that gives its score only while another one is at work too."""

    def __init__(self, barrier, remote):
        super().__init__()
        self.barrier, self.remote = barrier, remote

    def score(self, images, prompts):
        self.barrier.wait()
        return [Score(1.0) for _ in images]


def test_rewards_behind_servers_wait_while_others_compute(batch):
    barrier = threading.Barrier(3, timeout=30)
    rewards = {name: Meeting(barrier, name != "here") for name in ("far", "here", "away")}
    scored = score_batch(rewards, *batch)
    assert list(scored.scores) == list(scored.seconds) == ["far", "here", "away"]
    assert all(score.value == 1.0 for scores in scored.scores.values() for score in scores)


def worker_processes():
    return [child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")]


def kill_workers():
    killed = worker_processes()
    for child in killed:
        if child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
    return len(killed)


def test_a_killed_worker_is_replaced_and_its_batch_comes_back(batch):
    with ScoringPool(parse_rewards(["ocr"]), workers=1) as pool:
        expected = pool.submit(*batch).result().scores
        long_batch = (batch[0] * 20, batch[1] * 20)
        future = pool.submit(*long_batch)
        time.sleep(0.1)
        assert not future.done()
        assert kill_workers() == 1
        assert future.result().scores["ocr@1"] == expected["ocr@1"] * 20


def test_a_worker_killed_while_idle_costs_nothing(batch):
    with ScoringPool(parse_rewards(["ocr"]), workers=1) as pool:
        expected = pool.submit(*batch).result().scores
        assert kill_workers() == 1
        time.sleep(0.5)
        assert pool.submit(*batch).result().scores == expected


def test_a_batch_that_kills_every_worker_has_failed_scores(batch):
    with ScoringPool(parse_rewards(["ocr"]), workers=1) as pool:
        future = pool.submit(*batch)
        while not future.done():
            kill_workers()
            time.sleep(0.05)
        scores = future.result().scores["ocr@1"]
    assert [score.value for score in scores] == [None] * 4
    assert all("the scoring process died" in score.reason for score in scores)


def test_leaving_by_an_error_drops_what_waits(batch):
    futures = []

    def draw_and_stumble():
        with ScoringPool(parse_rewards(["ocr"]), workers=1) as pool:
            futures.extend(pool.submit(*batch) for _ in range(6))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_and_stumble()
    assert futures[-1].cancelled()
    assert not worker_processes()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scoring")]


ORPHANS = """
import sys, time
from multiprocessing import active_children
from PIL import Image
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.parse import parse_rewards

if __name__ == "__main__":
    with ScoringPool(parse_rewards(["imagestats"]), workers=2) as pool:
        for future in [pool.submit([Image.new("RGB", (4, 4))], [Prompt("x")]) for _ in range(4)]:
            future.result()
        print(*[child.pid for child in active_children()], flush=True)
        time.sleep(60)
"""


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=_path_here()) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


UNUSED = """
import sys, time
from rewards.pool import ScoringPool
from rewards.parse import parse_rewards

if __name__ == "__main__":
    with ScoringPool(parse_rewards(["imagestats"]), workers=1) as pool:
        while sys.argv[1] == "ready" and not pool._crews[0]._lanes[0].worker._line.poll():
            time.sleep(0.05)
"""


@pytest.mark.parametrize("worker", ["starting", "ready"])
def test_a_pool_without_work_is_left_in_silence(tmp_path, worker):
    script = tmp_path / "unused.py"
    script.write_text(UNUSED)
    ended = subprocess.run([sys.executable, script, worker], capture_output=True, text=True, env=_path_here())
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def _alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _path_here():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
