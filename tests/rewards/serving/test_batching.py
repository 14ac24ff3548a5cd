"""Jobs of several clients in one batch: each gets its own scores back, in order."""

import threading
import time
from concurrent.futures import Future

import pytest
from PIL import Image

from rewards.pool import Scored
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.serving.batching import Batcher, Job
from rewards.serving.limits import Refusal


class Scorer:
    """Scores an image by its width; holds every batch until `go`, and breaks on the width 13."""

    def __init__(self, *, held=False):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def submit(self, key, images, prompts):
        future = Future()
        self.begun.set()
        self.go.wait(10)
        self.batches.append((key, [image.width for image in images]))
        if any(image.width == 13 for image in images):
            future.set_exception(TypeError("a bug"))
        else:
            future.set_result(
                Scored(
                    {key: [Score(image.width, prompt.text) for image, prompt in zip(images, prompts, strict=True)]}, {}
                )
            )
        return future


def job(key, *widths):
    return Job(key, [Image.new("L", (width, 1)) for width in widths], [Prompt(f"p{width}") for width in widths])


def scores(one):
    answer = one.future.result(10)
    return [(score.value, score.detail) for score in answer.scores]


def test_jobs_of_one_reward_are_merged_and_answered_each():
    scorer = Scorer(held=True)
    sizes = []
    with Batcher(scorer.submit, batch=4, wait_s=0, capacity=99, on_batch=lambda *one: sizes.append(one)) as batcher:
        jobs = [job("a", 1)]
        batcher.put(jobs[0])
        scorer.begun.wait(10)  # the others come while the first is being scored
        jobs += [job("a", 2, 3), job("a", 5), job("a", 6, 7), job("a", 8)]
        for one in jobs[1:]:
            batcher.put(one)
        assert batcher.waiting == 6
        scorer.go.set()
        assert [scores(one) for one in jobs] == [
            [(1, "p1")], [(2, "p2"), (3, "p3")], [(5, "p5")], [(6, "p6"), (7, "p7")], [(8, "p8")],
        ]  # fmt: skip
    assert scorer.batches == [("a", [1]), ("a", [2, 3, 5, 8]), ("a", [6, 7])]
    assert sizes == [("a", 1), ("a", 4), ("a", 2)]


def test_a_lonely_job_waits_for_company_and_no_longer():
    scorer = Scorer()
    with Batcher(scorer.submit, batch=4, wait_s=0.3, capacity=99) as batcher:
        jobs, start = [job("a", 1), job("a", 2)], time.monotonic()
        batcher.put(jobs[0])
        time.sleep(0.05)
        batcher.put(jobs[1])
        assert [one.future.result(10).batch for one in jobs] == [2, 2]
        assert 0.25 < time.monotonic() - start < 2
        full = job("a", 1, 2, 3, 4)
        start = time.monotonic()
        batcher.put(full)
        full.future.result(10)
        assert time.monotonic() - start < 0.2


def test_a_full_queue_refuses_until_there_is_room():
    scorer = Scorer(held=True)
    with Batcher(scorer.submit, batch=1, wait_s=0, capacity=3) as batcher:
        batcher.put(job("a", 1))
        scorer.begun.wait(10)
        waiting = job("a", 1, 2, 3, 4)  # more than the queue holds, but it is empty
        batcher.put(waiting)
        with pytest.raises(Refusal) as refusal:
            batcher.put(job("a", 1))
        assert (refusal.value.status, refusal.value.retry_after) == (429, 1.0)
        scorer.go.set()
        waiting.future.result(10)
        batcher.put(job("a", 1))


def test_a_job_whose_client_has_gone_is_not_scored():
    scorer = Scorer(held=True)
    with Batcher(scorer.submit, batch=1, wait_s=0, capacity=99) as batcher:
        jobs = [job("a", width) for width in (1, 2, 3)]
        for one in jobs:
            batcher.put(one)
        scorer.begun.wait(10)
        assert jobs[1].future.cancel()
        scorer.go.set()
        jobs[2].future.result(10)
    assert scorer.batches == [("a", [1]), ("a", [3])]


def test_a_bug_reaches_only_the_job_that_ran_into_it():
    scorer = Scorer(held=True)
    with Batcher(scorer.submit, batch=9, wait_s=0.2, capacity=99) as batcher:
        jobs = [job("a", 1), job("a", 13), job("a", 2)]
        for one in jobs:
            batcher.put(one)
        scorer.go.set()
        assert scores(jobs[0]) == [(1, "p1")]
        assert isinstance(jobs[1].future.exception(10), TypeError)
        assert scores(jobs[2]) == [(2, "p2")]


def test_closing_answers_what_is_queued_and_takes_nothing_new():
    scorer = Scorer()
    batcher = Batcher(scorer.submit, batch=9, wait_s=60, capacity=99)
    with batcher:
        one = job("a", 1)
        batcher.put(one)
    assert scores(one) == [(1, "p1")]
    with pytest.raises(Refusal) as refusal:
        batcher.put(job("a", 1))
    assert refusal.value.status == 503


def test_several_lanes_score_at_the_same_time():
    together = threading.Barrier(2, timeout=10)

    def submit(key, images, prompts):
        together.wait()
        future = Future()
        future.set_result(Scored({key: [Score(1.0)]}, {}))
        return future

    with Batcher(submit, batch=1, wait_s=0, capacity=99, lanes=2) as batcher:
        jobs = [job("a", 1), job("b", 1)]
        for one in jobs:
            batcher.put(one)
        assert [scores(one) for one in jobs] == [[(1.0, "")]] * 2
