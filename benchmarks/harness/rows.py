"""What becomes of one image and one reward: a row of scores.csv with a score, or with the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.harness.store import FAILED, MISSING, OK, Row
from rewards.images import ImageFile
from rewards.prompt import Prompt
from rewards.score import Score


@dataclass(frozen=True)
class Subject:
    """One image under one prompt (None where it has none), as its rows name it."""

    run: str
    prompt: Prompt | None
    seed: int
    name: str
    """That of the image."""
    file: ImageFile
    wanted: tuple[str, ...]
    """The keys of the rewards by which it lacks a score."""
    suite: str = ""
    suite_sha: str = ""

    @property
    def prompt_id(self) -> str:
        return "" if self.prompt is None else self.prompt.id

    def scored(self, reward: str, score: Score, seconds: float) -> Row:
        if score.value is not None:
            return self._row(reward, OK, score.detail, score.value, seconds)
        reason = f"{score.reason} ({score.detail})" if score.detail else score.reason
        return self._row(reward, FAILED, reason, None, seconds)

    def without_image(self, reward: str) -> Row:
        return self._row(reward, MISSING if self.file.missing else FAILED, self.file.problem, None, None)

    def _row(self, reward: str, status: str, detail: str, score: float | None, seconds: float | None) -> Row:
        return Row(
            run=self.run,
            suite=self.suite,
            suite_sha=self.suite_sha,
            prompt_id=self.prompt_id,
            prompt="" if self.prompt is None else self.prompt.text,
            seed=self.seed,
            image=self.name,
            image_sha=self.file.sha256,
            reward=reward,
            score=score,
            status=status,
            detail=detail,
            seconds=None if seconds is None else round(seconds, 6),
        )
