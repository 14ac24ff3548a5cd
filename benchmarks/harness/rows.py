"""What becomes of one image and one reward: a row of scores.csv with a score, or with the reason why there is none."""

from __future__ import annotations

from benchmarks.harness.images import Picture
from benchmarks.harness.store import FAILED, MISSING, OK, Row
from benchmarks.suite import Suite
from rewards.score import Score


class RowMaker:
    """Makes the rows of one run over one suite."""

    def __init__(self, suite: Suite, run_name: str) -> None:
        self.suite, self.suite_sha, self.run_name = suite.name, suite.sha256, run_name

    def scored(self, picture: Picture, reward: str, score: Score, seconds: float) -> Row:
        if score.value is not None:
            return self._row(picture, reward, OK, score.detail, score.value, seconds)
        reason = f"{score.reason} ({score.detail})" if score.detail else score.reason
        return self._row(picture, reward, FAILED, reason, None, seconds)

    def without_image(self, picture: Picture, reward: str) -> Row:
        return self._row(picture, reward, MISSING if picture.missing else FAILED, picture.problem, None, None)

    def _row(
        self, picture: Picture, reward: str, status: str, detail: str, score: float | None, seconds: float | None
    ) -> Row:
        return Row(
            run=self.run_name,
            suite=self.suite,
            suite_sha=self.suite_sha,
            prompt_id=picture.cell.prompt.id,
            prompt=picture.cell.prompt.text,
            seed=picture.cell.seed,
            image=picture.file,
            image_sha=picture.sha256,
            reward=reward,
            score=score,
            status=status,
            detail=detail,
            seconds=None if seconds is None else round(seconds, 6),
        )
