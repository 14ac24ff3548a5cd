"""The table of rewards: the cards of every family that comes with the package; none is loaded for it."""

from rewards.card import Card
from rewards.clip import cards as clip
from rewards.geneval import cards as geneval
from rewards.imagereward import cards as imagereward
from rewards.imagestats import cards as imagestats
from rewards.ocr import cards as ocr
from rewards.vlm import cards as vlm

_FAMILIES = (ocr, clip, imagereward, vlm, geneval, imagestats)

CARDS: tuple[Card, ...] = tuple(card for family in _FAMILIES for card in family.CARDS)

# One name for several rewards.
BUNDLES: dict[str, tuple[str, ...]] = {"imagestats": tuple(card.name for card in imagestats.CARDS)}
