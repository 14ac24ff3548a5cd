"""What can be asked of built rewards besides scores, one function per question; a scoring process answers the same.

Each takes the rewards by their keys, and tells `on_reward` which one is about to be waited for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rewards.card import Card
from rewards.errors import SetupError, UsageError
from rewards.prompt import Prompt
from rewards.registry import provenance_of
from rewards.reward import Reward
from rewards.scoring.reward_faults import broke_off
from rewards.spec import RewardSpec


def _tell_nobody(key: str) -> None: ...


@dataclass(frozen=True)
class RewardFacts:
    """What a record tells of a reward that was built, without the reward itself."""

    spec: RewardSpec
    card: Card
    provenance: Mapping[str, str]


def tell_facts(
    rewards: Mapping[str, Reward], on_reward: Callable[[str], None] = _tell_nobody
) -> dict[str, RewardFacts]:
    """Card and provenance of each; files of weights are hashed for it, which may take minutes."""
    facts = {}
    for key, reward in rewards.items():
        on_reward(key)
        with _blamed(key):
            facts[key] = RewardFacts(reward.spec, reward.card, provenance_of(reward))
    return facts


def find_problems(
    rewards: Mapping[str, Reward], prompts: Sequence[Prompt], on_reward: Callable[[str], None] = _tell_nobody
) -> dict[str, list[str | None]]:
    """By each reward, for each prompt, why no image of it can be judged; None where one can."""
    problems = {}
    for key, reward in rewards.items():
        on_reward(key)
        with _blamed(key):
            reward.prepare_checks(prompts)
            problems[key] = [_problem(reward, prompt) for prompt in prompts]
    return problems


def verify(rewards: Mapping[str, Reward], on_reward: Callable[[str], None] = _tell_nobody) -> None:
    """Have each reward try what it has loaded; costs a few images.

    Raises:
        SetupError: one of them plainly judges nothing.
    """
    for key, reward in rewards.items():
        on_reward(key)
        with _blamed(key):
            reward.verify()


QUESTIONS: Mapping[str, Callable[..., Any]] = {one.__name__: one for one in (tell_facts, find_problems, verify)}


def _problem(reward: Reward, prompt: Prompt) -> str | None:
    try:
        reward.check(prompt)
    except UsageError as error:
        return str(error)
    return None


@contextmanager
def _blamed(key: str) -> Iterator[None]:
    """What breaks inside names the reward."""
    try:
        yield
    except (SetupError, UsageError):
        raise
    except Exception as error:  # somebody else's code, of which anything can come
        raise broke_off(key, error) from error
