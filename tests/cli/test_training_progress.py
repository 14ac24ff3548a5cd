"""What the line of a training says."""

import pytest

from cli.training_progress import summarise

METRICS = {
    "reward": 0.5, "spread": 0.1, "dead_groups": 0.0, "failed": 0, "rewards": {"ocr@1": 0.5}, "kl": 0.0012,
    "seconds": {"draw": 3.0, "score": 0.5, "learn": 4.0}, "scoring_seconds": {"ocr@1": 0.027, "geneval@1": 0.21},
}  # fmt: skip


def test_the_line_by_hand():
    assert summarise(METRICS, {"kl": ".4f"}) == (
        "reward 0.500 (spread 0.100, dead groups 0%), kl 0.0012, draw/score/learn 3.0/0.5/4.0 s"
    )


@pytest.mark.parametrize(
    ("score_s", "taken", "end"),
    [
        (2.4, METRICS["scoring_seconds"], ", waiting for geneval@1 (0.21 s an image)"),
        (2.3, METRICS["scoring_seconds"], " s"),
        (9.0, {}, " s"),
    ],
)
def test_a_reward_that_is_waited_for_is_named(score_s, taken, end):
    seconds = {"draw": 3.0, "score": score_s, "learn": 4.0}
    line = summarise({**METRICS, "seconds": seconds, "scoring_seconds": taken}, {})
    assert line.endswith(f"/4.0 s{end.removeprefix(' s')}")
