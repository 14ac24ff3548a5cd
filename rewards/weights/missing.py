"""What rewards lack on this machine, all of it at once: a short table, one command, and what works without them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rewards.errors import SetupError, WeightsMissing

if TYPE_CHECKING:
    from rewards.card import Card
    from rewards.spec import RewardSpec

SHOWN = 2
HEAD: tuple[str, str, str] = ("reward", "to fetch", "what is missing")


def tell_missing(
    problems: "Mapping[RewardSpec, SetupError]", working: "Sequence[RewardSpec]", cards: "Sequence[Card]"
) -> str:
    """The message about rewards that cannot be built; `working` were asked for too, and `cards` are all there are."""
    from rewards.weights.folder import tell_stand

    lines: list[tuple[str, str, str]] = [HEAD]
    to_fetch = []
    for spec, error in problems.items():
        if isinstance(error, WeightsMissing):
            to_fetch.append(spec.name)
            more = len(error.files) - SHOWN
            rest = f" and {more} more file{'s' if more > 1 else ''}" if more > 0 else ""
            lines.append((spec.key, error.size or "-", ", ".join(error.files[:SHOWN]) + rest))
        else:
            lines.append((spec.key, "-", str(error).removeprefix(f"{spec.key}: ")))
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    text = ["These rewards cannot be built here:"]
    text += ["  ".join([first.ljust(widths[0]), second.ljust(widths[1]), third]) for first, second, third in lines]
    if to_fetch:
        names = list(dict.fromkeys(to_fetch))
        text.append(
            f"Get the weights with: dgpo rewards fetch {' '.join(names)}\nWhere there is no network, give folders:"
            f" --weights {names[0]}=DIR; `dgpo rewards show {names[0]}` tells what lies in one."
        )
    if working:
        text.append(f"To go on without them: {' '.join(f'--reward {spec.key!r}' for spec in working)}")
    else:
        free = [card.name for card in cards if not card.files and tell_stand(card) != "own"]
        text.append(f"Rewards that need no weights from elsewhere: {', '.join(free)}")
    return "\n".join(text)
