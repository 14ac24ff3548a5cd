"""One batch by several rewards, and the one place where what a reward does wrong becomes a failed score or an error."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AnySet
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from PIL.Image import Image

from rewards.card import Card
from rewards.errors import ScoringError, SetupError, UsageError
from rewards.escape import without_addresses
from rewards.images import DAMAGE
from rewards.prompt import Prompt
from rewards.reward import Reward
from rewards.score import Score
from rewards.scoring.isolation import undisturbed
from rewards.scoring.reward_faults import broke_off, place_in, returned_wrong

# What libraries raise when one input is beyond them. Anything else (a TypeError, say) is a mistake in the reward.
_ENGINE_FAILURES = (ScoringError, RuntimeError, OSError, ValueError, ArithmeticError, MemoryError)
# By how much, relative to a bound of at least 1, rounding may carry a score beyond it.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Scored:
    """Scores of one batch: for each reward's key one score per image, in order, and the seconds an image took."""

    scores: dict[str, list[Score]]
    seconds: dict[str, float]


def score_batch(
    rewards: Mapping[str, Reward],
    images: Sequence[Image],
    prompts: Sequence[Prompt],
    on_reward: Callable[[str], None] = lambda key: None,
) -> Scored:
    """Judge every image by every reward; `on_reward` is told which one is about to be waited for.

    When a batch fails as a whole, its images are judged one by one, so that only the guilty ones fail. An image that
    cannot be decoded fails for every reward. Each reward gets copies, so that none sees what another has painted.
    Rewards that wait for a server (`remote`) do so while the others compute.

    Raises:
        RewardBroken: a reward has a mistake in its code: it raised what no image explains, or returned no scores.
        SetupError, UsageError: a reward says so itself.
    """
    broken, images, prompts = set_broken_aside(images, prompts)
    with undisturbed():
        here = [key for key, reward in rewards.items() if not reward.remote]
        away = [key for key in rewards if key not in here]
        begun = {key: _beside(_judge_timed, key, rewards[key], images, prompts) for key in away}
        timed = {}
        for key in here:
            on_reward(key)
            timed[key] = _judge_timed(key, rewards[key], images, prompts)
        for key, future in begun.items():
            on_reward(key)
            timed[key] = future.result()
    scores = {key: timed[key][0] for key in rewards}
    return put_back(broken, Scored(scores, {key: timed[key][1] for key in rewards}))


def set_broken_aside(
    images: Sequence[Image], prompts: Sequence[Prompt]
) -> tuple[dict[int, str], list[Image], list[Prompt]]:
    """Decode every image; position and reason of those that cannot be, and the others with their prompts."""
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
    broken = {}
    for position, image in enumerate(images):
        try:
            image.load()
        except DAMAGE as error:
            broken[position] = without_addresses(f"the image cannot be decoded: {error}")
    sound = [position for position in range(len(images)) if position not in broken]
    return broken, [images[position] for position in sound], [prompts[position] for position in sound]


def put_back(broken: Mapping[int, str], sound: Scored) -> Scored:
    """The scores with failed ones where images were set aside."""
    if not broken:
        return sound
    return Scored({key: _interleave(broken, scores) for key, scores in sound.scores.items()}, sound.seconds)


def _interleave(broken: Mapping[int, str], scores: Sequence[Score]) -> list[Score]:
    rest = iter(scores)
    positions = range(len(scores) + len(broken))
    return [Score.failed(broken[position]) if position in broken else next(rest) for position in positions]


def _beside(work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
    """Run work in a thread that keeps no program from ending."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # whoever waits for the future gets it
            future.set_exception(error)

    threading.Thread(target=run, name="waiting", daemon=True).start()
    return future


def _judge_timed(
    key: str, reward: Reward, images: Sequence[Image], prompts: Sequence[Prompt]
) -> tuple[list[Score], float]:
    """The scores, and the seconds that an image took."""
    start = time.perf_counter()
    scores = _judge(key, reward, images, prompts)
    return scores, (time.perf_counter() - start) / max(len(images), 1)


def _judge(key: str, reward: Reward, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
    if not images:
        return []
    try:
        returned = _listed(key, reward.score([image.copy() for image in images], prompts), len(images))
    except (SetupError, UsageError):
        raise
    except _ENGINE_FAILURES as error:
        if len(images) == 1:
            return [Score.failed(without_addresses(f"{type(error).__name__}: {error}") + _place_of(reward, error))]
        pairs = zip(images, prompts, strict=True)
        return [score for image, prompt in pairs for score in _judge(key, reward, [image], [prompt])]
    except (Exception, SystemExit) as error:  # anything can come of a plug-in, and the run is to be saved
        raise broke_off(key, error) from error
    return [_checked(key, reward.card, one) for one in returned]


def _place_of(reward: Reward, error: Exception) -> str:
    """Line of its author's file in which a plug-in raised; not for words chosen for the reader."""
    return place_in(error, reward.file) if reward.file and not isinstance(error, ScoringError) else ""


def _listed(key: str, returned: Any, count: int) -> list[Any]:
    """What `score` returned, as a list of that length; a generator does its work here."""
    if isinstance(returned, str | bytes | Mapping | AnySet) or not isinstance(returned, Iterable):
        raise returned_wrong(key, f"{returned!r:.80} ({type(returned).__name__}) for {count} images")
    listed = list(islice(returned, count + 1))
    if len(listed) != count:
        raise returned_wrong(key, f"{len(listed) if len(listed) < count else 'more'} scores for {count} images")
    return listed


def _checked(key: str, card: Card, one: Any) -> Score:
    """A score as a plain finite float within its card's bounds, or failed."""
    score = one if isinstance(one, Score) else Score(one) if one is not None else None
    value = None if score is None else score.value
    number = value is None or (hasattr(value, "__float__") and not isinstance(value, str | bytes))
    if score is None or not number:
        raise returned_wrong(key, f"{value!r:.80} ({type(value).__name__}) for an image")
    try:
        score = score.checked()
    except (TypeError, ValueError):
        raise returned_wrong(key, f"{value!r:.80} ({type(value).__name__}) for an image") from None
    score = replace(score, detail=str(score.detail), reason=without_addresses(score.reason))
    return score if score.value is None or _within(card, score.value) else _out_of_bounds(card, score)


def _within(card: Card, value: float) -> bool:
    low, high = card.bounds
    return (low is None or value >= low - _ROUNDING * max(1.0, abs(low))) and (
        high is None or value <= high + _ROUNDING * max(1.0, abs(high))
    )


def _out_of_bounds(card: Card, score: Score) -> Score:
    low, high = card.bounds
    span = f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else f"from {low:g} to {high:g}"
    return Score.failed(f"the reward returned {score.value:g}, and its card says {span} (bounds)", score.detail)
