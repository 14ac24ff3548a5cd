"""Alarms: what the scores of an iteration say about the reward that gave them.

Shapes: R rewards, K prompts per iteration, G images of each. `Alarms` is pure: it is told everything, and asks nothing.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from dgpo.sections import Watch
from dgpo.supervision.canaries import Canaries
from dgpo.supervision.hooks import Hook, Moment, Scores
from rewards.registry import card_of
from rewards.spec import RewardSpec

if TYPE_CHECKING:
    from dgpo.trainer import Trainer

RECENT = 10
# Scores this close together, relative to their size, are one score with rounding errors.
_CLOSE = 1e-6


class Alarm(NamedTuple):
    """A sentence for the user; `stop` where going on would only cost, because of the reward of that key."""

    sentence: str
    stop: bool = False
    key: str = ""


@dataclass(frozen=True)
class Watched:
    """A reward as its alarms need it: the value it is trained towards, and the opposite one (None: there is none)."""

    key: str
    best: float | None
    worst: float | None


@dataclass
class _Streak:
    """Iterations in a row that had one thing in common; due at `first`, then whenever it is twice as long."""

    first: int
    length: int = 0
    next: int = field(init=False)

    def __post_init__(self) -> None:
        self.next = self.first

    def end(self) -> None:
        self.length, self.next = 0, self.first

    def due(self) -> bool:
        if self.length < self.next:
            return False
        self.next = 2 * self.length
        return True


@dataclass
class _Constant(_Streak):
    """Iterations in which one reward gave everything the same score, from `low` to `high`."""

    low: float = 0.0
    high: float = 0.0
    images: int = 0

    def add(self, made: torch.Tensor) -> None:
        """Count one more iteration, or begin anew where its scores differ from those before or among themselves."""
        low, high = made.min().item(), made.max().item()
        if not _equal(low, high):
            self.end()
            return
        if self.length and not _equal(min(low, self.low), max(high, self.high)):
            self.end()
        if self.length == 0:
            self.low, self.high, self.images = low, high, 0
        self.low, self.high = min(low, self.low), max(high, self.high)
        self.length, self.images = self.length + 1, self.images + made.numel()


class Alarms:
    """Follows the scores of a run, iteration by iteration.

    `alive` are the keys of rewards that gave the canaries different scores: stuck at their worst value, they are
    believed, since a model may well fail at everything that is asked of it.
    """

    def __init__(self, settings: Watch, rewards: Sequence[Watched], max_failed: int) -> None:
        self.settings, self.rewards, self.max_failed = settings, rewards, max_failed
        self.alive: Collection[str] = ()
        half = -(-settings.constant_after // 2)
        self._constant = {reward.key: _Constant(half) for reward in rewards}
        self._dead = _Streak(settings.constant_after)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._said = 0.0  # the share of failures that was last spoken of

    def hear(self, parts_RKG: torch.Tensor, dead_groups: float, failures: Sequence[str], *, images: int) -> list[Alarm]:
        """What is wrong after this iteration; `failures` are the reasons of the images that could not be scored."""
        constant = self._hear_constant(parts_RKG)
        return [*self._hear_failures(failures, images), *constant, *self._hear_dead(dead_groups)]

    def _hear_constant(self, parts_RKG: torch.Tensor) -> list[Alarm]:
        alarms = []
        for reward, part_KG in zip(self.rewards, parts_RKG, strict=True):
            made, streak = part_KG[~part_KG.isnan()], self._constant[reward.key]
            if made.numel():
                streak.add(made)
            if self.settings.constant != "off" and (alarm := self._judge(reward, streak)) is not None:
                alarms.append(alarm)
        return alarms

    def _judge(self, reward: Watched, streak: _Constant) -> Alarm | None:
        saturated = reward.best is not None and _equal(reward.best, streak.low)
        believed = reward.worst is not None and _equal(reward.worst, streak.low) and reward.key in self.alive
        stops = self.settings.constant == "stop" and not saturated and not believed
        stop = stops and streak.length >= self.settings.constant_after
        if not (stop or streak.due()):
            return None
        told = (
            f"{reward.key} gave each of the {streak.images} images of the last {streak.length} iterations the same "
            f"score, {streak.low:.6g}"
        )
        if saturated:
            return Alarm(
                f"{told}: it is saturated at its bound, and nothing more can be learned from it. End the run, or give "
                "it harder prompts or another reward beside it."
            )
        if believed:
            return Alarm(
                f"{told}, its lowest: the model fails at all that is asked of it (the reward does tell the canaries "
                "apart). Nothing can be learned from that; easier prompts or a graded reward would help."
            )
        advice = "Look at the images in samples/ and score some by hand: dgpo score."
        if stop:
            return Alarm(
                f"{told}: nothing can be learned from that, and the reward may be broken. {advice} If it is right, "
                "go on with --set watch.constant=warn.",
                stop=True,
                key=reward.key,
            )
        soon = f" The run stops after {self.settings.constant_after} such iterations." if stops else ""
        return Alarm(f"{told}: nothing was learned from it, and it may be broken. {advice}{soon}")

    def _hear_dead(self, dead_groups: float) -> list[Alarm]:
        """All images of each prompt equal, though not the same in all prompts: that is not for `_hear_constant`."""
        if dead_groups < 1.0:
            self._dead.end()
            return []
        self._dead.length += 1
        explained = any(streak.length >= streak.first for streak in self._constant.values())
        if explained or not self._dead.due():
            return []
        return [
            Alarm(
                f"All groups were dead in the last {self._dead.length} iterations: the images of one prompt had equal "
                "scores, so nothing was learned. More images per prompt (group_size) or a graded reward would help."
            )
        ]

    def _hear_failures(self, failures: Sequence[str], images: int) -> list[Alarm]:
        """The first failure, and then whenever their share has doubled."""
        self._recent.append(len(failures) / images)
        share = sum(self._recent) / len(self._recent)
        if not failures or share < 2 * self._said:
            return []
        before, self._said = self._said, share
        limit = f"A run stops at more than {self.max_failed} an iteration (max_failed)"
        if before == 0.0:
            one = "image" if len(failures) == 1 else "images"
            return [Alarm(f"{len(failures)} {one} of {images} could not be scored: {failures[0]}. {limit}.")]
        return [
            Alarm(
                f"More images fail: {share:.1%} of those of the last {len(self._recent)} iterations could not be "
                f"scored ({before:.1%} when this was last said), for instance: {failures[0]}. {limit}."
            )
        ]


def _equal(low: float, high: float) -> bool:
    return abs(high - low) <= _CLOSE * abs(high)


class AlarmHook(Hook):
    """Tells a run's user what its scores say, and ends it where going on would only cost."""

    def __init__(self, settings: Watch, specs: Sequence[RewardSpec], max_failed: int, canaries: Canaries) -> None:
        self.alarms = Alarms(settings, [_watched(spec) for spec in specs], max_failed)
        self.canaries = canaries

    def begin(self, training: "Trainer", moment: Moment) -> None:
        self.alarms.alive = self.canaries.alive

    def scored(self, training: "Trainer", scores: Scores) -> None:
        dead, images = scores.described["dead_groups"], training.config.images
        for alarm in self.alarms.hear(scores.parts_RKG, dead, scores.failures, images=images):
            sentence = f"teration {training.progress.step + 1}: {alarm.sentence}"
            if alarm.stop:
                self.canaries.forget(alarm.key)
                training.stop(f"I{sentence}", "mend the cause")
            training.note(f"i{sentence}")


def _watched(spec: RewardSpec) -> Watched:
    """Its bounds as training sees them: a weight below zero turns them round."""
    card = card_of(spec)
    low, high = card.bounds
    if spec.train_weight * card.train_scale < 0:
        low, high = high, low
    return Watched(spec.key, best=high, worst=low)
