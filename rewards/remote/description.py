"""What a server says of the rewards it serves, as JSON; written by the server, read strictly by its clients."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.card import Card
from rewards.files import sha256_of
from rewards.registry import provenance_of
from rewards.reward import Reward

# What a client needs of a card; options and files are the server's affair.
_CARD = (
    "name", "version", "unit", "bounds", "higher_is_better", "train_scale", "licence", "summary", "weights",
    "reads_prompt", "repeatability",
)  # fmt: skip
_LIMITS = ("images", "request_bytes", "request_pixels", "json_bytes")


@dataclass(frozen=True)
class Description:
    """One served reward; scores of equal `identity` may be mixed."""

    key: str
    options: tuple[tuple[str, str], ...]
    card: Card
    provenance: Mapping[str, str]
    server_version: str
    identity: str


@dataclass(frozen=True)
class Served:
    """What one server serves, and how much it takes at once."""

    rewards: tuple[Description, ...]
    limits: Mapping[str, int]


def describe(reward: Reward, version: str) -> dict[str, Any]:
    """What a server says of one reward; `version` is the server's own."""
    description = {
        "key": reward.spec.key,
        "options": dict(reward.spec.options),
        "card": {name: getattr(reward.card, name) for name in _CARD},
        "provenance": provenance_of(reward),
        "server_version": version,
    }
    return {**description, "identity": identify(description)}


def identify(description: Mapping[str, Any]) -> str:
    """12 hex digits of key, server version, engine and weights; without the device, which is not what scores mean."""
    facts = {name: fact for name, fact in description["provenance"].items() if name != "device"}
    parts = [description["key"], description["server_version"], facts]
    return sha256_of(json.dumps(parts, sort_keys=True))[:12]


def read_served(document: Any) -> Served:
    """The answer to GET /v1/rewards; ValueError when it is none."""
    try:
        rewards = tuple(_read_one(fields) for fields in document["rewards"])
        limits = {name: int(document["limits"][name]) for name in _LIMITS}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not rewards or min(limits.values()) < 1:
        raise ValueError("no rewards, or impossible limits")
    return Served(rewards, limits)


def _read_one(fields: Mapping[str, Any]) -> Description:
    given = {name: fields["card"][name] for name in _CARD}
    low, high = given["bounds"]
    card = Card(**{**given, "bounds": (low, high)})
    if not isinstance(card.name, str) or not isinstance(card.version, int):
        raise ValueError("a card without name and version")
    options = tuple(sorted((str(name), str(value)) for name, value in fields["options"].items()))
    provenance = {str(name): str(fact) for name, fact in fields["provenance"].items()}
    texts = [fields[name] for name in ("key", "server_version", "identity")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("key, server_version and identity are text")
    return Description(texts[0], options, card, provenance, texts[1], texts[2])
