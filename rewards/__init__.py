"""Rewards: how good is this one image for this prompt? The same object trains a model and measures it.

    import rewards

    scores = rewards.load("ocr").score(images, ['a sign that says "cat"'] * len(images))

The names below are public; everything else may move. They are imported when they are first used, so that
`import rewards` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewards.card import Card, Option, WeightFile
    from rewards.parse import parse_rewards
    from rewards.pool import ScoringPool
    from rewards.prompt import Prompt
    from rewards.reward import Reward
    from rewards.score import Score
    from rewards.simple import load
    from rewards.spec import RewardSpec

_PLACES = {
    "Card": "card",
    "Option": "card",
    "Prompt": "prompt",
    "Reward": "reward",
    "RewardSpec": "spec",
    "Score": "score",
    "ScoringPool": "pool",
    "WeightFile": "card",
    "load": "simple",
    "parse_rewards": "parse",
}
__all__ = [
    "Card",
    "Option",
    "Prompt",
    "Reward",
    "RewardSpec",
    "Score",
    "ScoringPool",
    "WeightFile",
    "load",
    "parse_rewards",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'rewards' has no attribute {name!r}")
    return getattr(importlib.import_module(f"rewards.{_PLACES[name]}"), name)
