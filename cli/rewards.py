"""`dgpo rewards`: which judges there are, and what their numbers mean."""

from typing import Annotated, Any

import typer

from cli.options import AsJson, group
from cli.screen import print_json, print_table, say
from rewards.card import Card
from rewards.cards import BUNDLES
from rewards.registry import broken_plugins, card_of, cards
from rewards.spec import parse_rewards

app = group("Judges of images: for training, and for measuring.")


@app.command("ls")
def list_all(as_json: AsJson = False) -> None:
    """List the rewards."""
    for broken in broken_plugins():
        say(broken.sentence)
    if as_json:
        print_json([_to_json(card) for card in cards()])
        return
    rows = [(card.key, card.unit, _direction(card), card.extra or "-", card.summary) for card in cards()]
    print_table(("reward", "unit", "better", "extra", "what it measures"), rows)
    for name, members in BUNDLES.items():
        print(f"\n{name} stands for {', '.join(members)}.")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, NAME@VERSION or the name of a bundle.")],
    as_json: AsJson = False,
) -> None:
    """Print all that is known of a reward: unit, bounds, options, weights, licence."""
    known = [card_of(spec) for spec in parse_rewards([name])]
    if as_json:
        print_json([_to_json(card) for card in known])
        return
    print("\n\n".join(_describe(card) for card in known))


def _describe(card: Card) -> str:
    facts = [
        ("reward", card.key),
        ("measures", card.summary),
        ("unit", card.unit),
        ("bounds", " to ".join("open" if bound is None else f"{bound:g}" for bound in card.bounds)),
        ("better", _direction(card)),
        ("in training", f"multiplied by {card.train_scale:g}"),
        ("needs", f"pip install 'dgpo[{card.extra}]'" if card.extra else "nothing further"),
        ("weights", card.weights),
        ("licence", card.licence),
    ]
    lines = [f"{name:<12} {fact}" for name, fact in facts]
    for option in card.options:
        values = "|".join(option.choices) if option.choices else "VALUE"
        lines.append(
            f"{'option':<12} --reward-set {card.name}.{option.name}={values} (default {option.default}): {option.help}"
        )
    return "\n".join(lines)


def _to_json(card: Card) -> dict[str, Any]:
    from dataclasses import asdict

    return {"key": card.key, **asdict(card)}


def _direction(card: Card) -> str:
    return {True: "higher", False: "lower", None: "neither"}[card.higher_is_better]
