from concurrent.futures import Future

import numpy as np
import pytest

from rewards.card import Card
from rewards.parse import parse_rewards
from rewards.pool import Scored, ScoringPool
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec
from rewards.trust.canary import (
    HALF,
    REMOTE,
    SIDE,
    Change,
    draw_canaries,
    find_changes,
    score_canaries,
    score_in_every_way,
    tells_apart,
    tolerance_of,
    values,
)

PROMPTS = [Prompt(f'a sign that says "{word}"') for word in ("Anchor", "WET FLOOR, MIND YOUR STEP", "basket", "fog")]


def number(image, prompt):
    """Tells images and prompts apart."""
    return float(np.asarray(image).mean()) / 255 + len(prompt.text)


def honest(images, prompts):
    return [number(image, prompt) for image, prompt in zip(images, prompts, strict=True)]


def submit_to(judge):
    def submit(images, prompts):
        future = Future()
        scores = [value if isinstance(value, Score) else Score(value) for value in judge(images, prompts)]
        future.set_result(Scored({"it@1": scores}, {"it@1": 0.0}))
        return future

    return submit


class TestDrawing:
    def test_is_the_same_every_time_and_differs_from_canary_to_canary(self):
        first, again = (draw_canaries(PROMPTS, 4) for _ in range(2))
        pixels = [canary.image.tobytes() for canary in first]
        assert pixels == [canary.image.tobytes() for canary in again]
        assert len(set(pixels)) == 4
        assert {canary.image.size for canary in first} == {(SIDE, SIDE)}
        assert [canary.prompt for canary in first] == PROMPTS

    def test_takes_different_prompts_and_as_many_as_there_are(self):
        assert [canary.prompt for canary in draw_canaries([PROMPTS[0], *PROMPTS], 2)] == PROMPTS[:2]
        assert len(draw_canaries(PROMPTS, 9)) == 4

    @pytest.mark.parametrize("text", ["", " ", 'a "" b', "?", 'an open " quote', "x" * 2000])
    def test_any_prompt_has_a_picture(self, text):
        assert draw_canaries([Prompt(text)], 1)[0].image.getextrema() != ((255, 255),) * 3

    def test_shows_what_its_prompt_wants_so_that_ocr_reads_it(self):
        specs = parse_rewards(["ocr"])
        canaries = draw_canaries(PROMPTS, 4)
        with ScoringPool(specs, workers=0) as pool:
            assert values(score_canaries(canaries, pool.submit)) == {"ocr@1": [1.0] * 4}


MIXED_UP = {
    "prompts reversed": lambda images, prompts: honest(images, prompts[::-1]),
    "images shifted": lambda images, prompts: honest([*images[1:], images[0]], prompts),
    "scores sorted": lambda images, prompts: sorted(honest(images, prompts)),
    "first prompt for all": lambda images, prompts: honest(images, [prompts[0]] * len(prompts)),
    "relative to the batch": lambda images, prompts: list(
        np.subtract(honest(images, prompts), np.mean(honest(images, prompts)))
    ),
}


class TestEveryWay:
    def changes(self, judge):
        alone, others = score_in_every_way(draw_canaries(PROMPTS, 4), submit_to(judge))
        assert list(others) == ["in one batch", "in a batch in reverse order"]
        return [change for scores in others.values() for change in find_changes(values(alone), scores, {"it@1": 1e-4})]

    def test_finds_nothing_wrong_with_an_honest_judge(self):
        assert self.changes(honest) == []

    @pytest.mark.parametrize("judge", MIXED_UP.values(), ids=MIXED_UP.keys())
    def test_finds_what_mixes_things_up(self, judge):
        assert self.changes(judge)


class TestChanges:
    @pytest.mark.parametrize(
        ("before", "after", "found"),
        [
            (0.5, 0.50009, False),
            (0.5, 0.50011, True),
            (20.0, 20.0019, False),
            (20.0, 19.9979, True),
            (-20.0, -20.0019, False),
            (0.0, 1e-5, False),
        ],
    )
    def test_are_measured_against_the_score_or_one(self, before, after, found):
        expected = [Change("a", 0, before, after)] if found else []
        assert find_changes({"a": [before]}, {"a": [Score(after)]}, {"a": 1e-4}) == expected

    def test_what_failed_now_or_then_is_no_change(self):
        after = [Score.failed("asleep"), Score(2.0), Score(float("nan")), Score(9.0)]
        found = find_changes({"a": [1.0, None, 1.0, 1.0]}, {"a": after, "new": [Score(1.0)]}, {"a": 1e-4, "new": 1e-4})
        assert found == [Change("a", 3, 1.0, 9.0)]


@pytest.mark.parametrize(
    ("row", "alive"), [([0.1, 0.2], True), ([0.5, 0.5, 0.5], False), ([0.5], False), ([None, 0.5], False), ([], False)]
)
def test_two_different_scores_are_a_sign_of_life(row, alive):
    assert tells_apart(row) is alive


class TestTolerance:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("ocr", 1e-4),
            ("pickscore", 1e-4),
            ("pickscore[dtype=fp16]", HALF["fp16"]),
            ("pickscore[dtype=bf16]", HALF["bf16"]),
            ("unifiedreward", 0.25),
        ],
    )
    def test_is_wider_in_half_precision_and_for_what_writes_text(self, text, expected):
        (spec,) = parse_rewards([text])
        assert tolerance_of(spec) == expected

    def test_is_wider_for_somebody_elses_server(self, monkeypatch):
        card = Card(name="far", version=1, unit="x", bounds=(0, 1), higher_is_better=True, summary="far away")
        monkeypatch.setattr("rewards.trust.canary.card_of", lambda spec: card)
        assert tolerance_of(RewardSpec("far", 1)) == 1e-4
        assert tolerance_of(RewardSpec("far", 1, (("detect", "false"),), source="http://gpu1:8000/far")) == REMOTE
