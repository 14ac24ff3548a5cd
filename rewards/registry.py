"""The table of rewards: which exist, what they are, and how one is built."""

import importlib
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from rewards.card import Card
from rewards.catalogue import BUNDLES, CARDS
from rewards.errors import SetupError, UsageError, suggestion
from rewards.remote.address import is_address
from rewards.weights.missing import tell_missing

if TYPE_CHECKING:
    from rewards.plugins import Broken, Installed
    from rewards.reward import Reward
    from rewards.spec import RewardSpec


def cards() -> list[Card]:
    """All cards, as `dgpo rewards ls` shows them: our own, then those of installed plug-ins."""
    return [*CARDS, *(plugin.card for plugin in _installed().plugins)]


def broken_plugins() -> "tuple[Broken, ...]":
    """Plug-ins that are installed and cannot be used, each with a sentence why."""
    return _installed().broken


def names() -> set[str]:
    """Everything that can stand behind --reward, bundles among them."""
    return {card.name for card in cards()} | set(BUNDLES)


def find_card(name: str, version: int | None = None) -> Card:
    """The card of a registered reward, the newest version unless one is named.

    Raises:
        UsageError: no such reward, or no such version of it.
        SetupError: it is a plug-in that cannot be used.
    """
    own = {card.version: card for card in CARDS if card.name == name}
    versions = own or {card.version: card for card in cards() if card.name == name}
    if not versions:
        raise unknown(name)
    if version is None:
        return versions[max(versions)]
    if version not in versions:
        raise UsageError(f"The reward {name} has no version {version}.{suggestion(str(version), map(str, versions))}")
    return versions[version]


def unknown(name: str) -> UsageError | SetupError:
    """The error for a name that no card has."""
    for broken in broken_plugins():
        if broken.name == name:
            return SetupError(broken.sentence)
    return UsageError(f'There is no reward "{name}".{suggestion(name, names())}')


def card_of(spec: "RewardSpec") -> Card:
    """The card of a variant: registered, in a file, or a server's, with what its options change settled.

    It is the one that the built reward has.
    """
    if spec.source is None:
        return find_card(spec.name, spec.version).settled(spec.options)
    if is_address(spec.source):
        from rewards.remote.client import served_card

        return served_card(spec.source)
    from rewards.plugins import load_source

    return load_source(spec.source, names())[1].settled(spec.options)


def find_class(spec: "RewardSpec") -> "type[Reward]":
    """The class of a spec's reward; of one in a file or package of its own, the one that wraps it."""
    from rewards.scoring.plugin_reward import PluginReward

    card = find_card(spec.name, spec.version) if spec.source is None else None
    if card not in CARDS:
        return PluginReward
    module, _, name = card.entry.partition(":")
    return getattr(importlib.import_module(module), name)


def load(spec: "RewardSpec") -> "Reward":
    """Build the reward that a spec describes; the one place where this happens.

    Raises:
        SetupError: its library or weights are missing, its engine does not start, or its server does not answer.
    """
    from rewards.plugins import load_class, load_source
    from rewards.scoring.plugin_reward import PluginReward

    if spec.source is not None and is_address(spec.source):
        from rewards.remote.client import ServedReward

        return ServedReward(spec, card_of(spec))
    if spec.source is not None:
        made, card = load_source(spec.source, names())
        return PluginReward(made, spec, card.settled(spec.options))
    listed = find_card(spec.name, spec.version)
    card = listed.settled(spec.options)
    if listed not in CARDS:
        plugin = next(plugin for plugin in _installed().plugins if plugin.card == listed)
        return PluginReward(load_class(plugin), spec, card)
    return find_class(spec)(spec, card)


def provenance_of(reward: "Reward") -> dict[str, str]:
    """What a run records of a reward: what it says itself, and which plug-in or file it came from."""
    facts = dict(reward.provenance())
    if reward.spec.source is not None and is_address(reward.spec.source):
        return {**facts, "source": reward.spec.source.partition("#")[0]}
    if reward.spec.source is not None:
        from rewards.plugins import fingerprint

        facts["source"] = fingerprint(reward.spec.source)
    for plugin in _installed().plugins:
        if plugin.card.key == reward.card.key:
            facts["source"] = plugin.package
    return facts


def build(specs: "Iterable[RewardSpec]") -> "dict[str, Reward]":
    """Build rewards, by their keys, so that what is missing is said before anything is drawn, and all of it at once.

    Raises:
        SetupError: a line for each reward that cannot be built, one command that fetches for all of them, and what
            works without.
    """
    problems: dict[RewardSpec, SetupError] = {}
    built: dict[RewardSpec, Reward] = {}
    for spec in specs:
        try:
            built[spec] = load(spec)
        except SetupError as error:
            problems[spec] = error
    if problems:
        raise SetupError(tell_missing(problems, list(built), cards()))
    return {spec.key: reward for spec, reward in built.items()}


def check_trainable(specs: "Iterable[RewardSpec]") -> None:
    """UsageError when one of the rewards only describes images, which gives training no direction."""
    descriptive = [spec.key for spec in specs if card_of(spec).higher_is_better is None]
    if descriptive:
        many = len(descriptive) > 1
        raise UsageError(
            f"{', '.join(descriptive)} {'describe' if many else 'describes'} images and {'do' if many else 'does'} not "
            "say which are better, so nothing can be trained on it, alone or in a mix; `dgpo eval` and `dgpo score` "
            "report it."
        )


@cache
def _installed() -> "Installed":
    from rewards.plugins import find_installed

    return find_installed({card.name for card in CARDS} | set(BUNDLES))
