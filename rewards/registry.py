"""The table of rewards: which exist, what they are, and how one is built."""

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rewards.card import Card
from rewards.cards import CARDS
from rewards.errors import SetupError, UsageError, suggestion

if TYPE_CHECKING:
    from rewards.reward import Reward
    from rewards.spec import RewardSpec


def cards() -> list[Card]:
    """All cards, as `dgpo rewards ls` shows them."""
    return list(CARDS)


def find_card(name: str, version: int | None = None) -> Card:
    """The card of a reward, the newest version unless one is named.

    Raises:
        UsageError: no such reward, or no such version of it.
    """
    versions = {card.version: card for card in CARDS if card.name == name}
    if not versions:
        raise UsageError(f'There is no reward "{name}".{suggestion(name, {card.name for card in CARDS})}')
    if version is None:
        return versions[max(versions)]
    if version not in versions:
        raise UsageError(f"The reward {name} has no version {version}.{suggestion(str(version), map(str, versions))}")
    return versions[version]


def load(spec: "RewardSpec") -> "Reward":
    """Build the reward that a spec describes; the one place where this happens.

    Raises:
        SetupError: its library or weights are missing, or its engine does not start.
    """
    card = find_card(spec.name, spec.version)
    module, _, name = card.entry.partition(":")
    return getattr(importlib.import_module(module), name)(spec, card)


def check_buildable(specs: "Iterable[RewardSpec]") -> None:
    """Build each reward once, so that what is missing is said before anything is drawn, and all of it at once.

    Raises:
        SetupError: one line for each reward that cannot be built.
    """
    missing = []
    for spec in specs:
        try:
            load(spec)
        except SetupError as error:
            missing.append(f"{spec.key}: {error}")
    if missing:
        raise SetupError("These rewards cannot be built here:\n" + "\n".join(missing))
