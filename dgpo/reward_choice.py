"""The rewards of a training, parsed once from the words of its config."""

from collections.abc import Sequence
from typing import NamedTuple

from dgpo.config import Config
from rewards.parse import parse_rewards
from rewards.spec import RewardSpec


class RewardChoice(NamedTuple):
    """What is trained on, and what evaluations measure: those first, then `evaluation.rewards`."""

    trained: Sequence[RewardSpec]
    measured: Sequence[RewardSpec]


def choose_rewards(config: Config) -> RewardChoice:
    """The specs that a config's words name; reads plug-in files, and asks servers that it names.

    Raises:
        UsageError: an unknown name, version, option or value, a reward given twice, a setting without its reward.
        SetupError: a server that does not answer.
    """
    specs = parse_rewards((*config.rewards, *config.evaluation.rewards), config.reward_set, config.weights)
    # A name may stand for several, so that what is trained on is counted by parsing it alone; settings are for both.
    trained = len(parse_rewards(config.rewards)) if config.evaluation.rewards else len(specs)
    return RewardChoice(specs[:trained], specs)
