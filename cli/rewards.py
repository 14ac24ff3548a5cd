"""`dgpo rewards`: which judges there are, what their numbers mean, and their weights: fetched, found, checked."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, RewardSets, WeightFolders, group
from cli.progress import Progress
from cli.screen import print_json, print_table, render_table, say
from rewards.card import Card, WeightFile
from rewards.catalogue import BUNDLES
from rewards.exits import ENVIRONMENT, GATE_FAILED
from rewards.parse import parse_judges
from rewards.registry import broken_plugins, card_of, cards
from rewards.weights.folder import format_size, tell_stand

if TYPE_CHECKING:
    from rewards.finding import Finding
    from rewards.weights.download import Remote
    from rewards.weights.fetch import Plan

MEGABYTE = 10**6

app = group("Judges of images: for training, and for measuring.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME, NAME@VERSION or the name of a bundle.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="NAME, NAME@VERSION or the name of a bundle.")]


@app.command("ls")
def list_all(as_json: AsJson = False) -> None:
    """List the rewards."""
    for broken in broken_plugins():
        say(broken.sentence)
    if as_json:
        print_json([_to_json(card) for card in cards()])
        return
    rows = [
        (card.key, card.unit, _direction(card), card.extra or "-", tell_stand(card), card.summary) for card in cards()
    ]
    head = ("reward", "unit", "better", "extra", "weights", "what it measures")
    print_table(head, rows, expendable=("unit", "extra", "better"))
    for name, members in BUNDLES.items():
        print(f"\n{name} stands for {', '.join(members)}.")


@app.command("show")
def show(name: Name, as_json: AsJson = False) -> None:
    """Print all that is known of a reward: unit, bounds, options, weights, licence."""
    known = [card_of(spec) for spec in parse_judges([name])]
    if as_json:
        print_json([_to_json(card) for card in known])
        return
    print("\n\n".join(_describe(card) for card in known))


@app.command("fetch")
def fetch(
    names: Names,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Also write folders for --weights, to take to another machine."),
    ] = None,
) -> None:
    """Download the published weights of rewards and verify them; given again, go on where it stopped."""
    known = [card_of(spec) for spec in parse_judges(names)]
    published = [card for card in known if card.files]
    for card in known:
        if not card.files:
            say(f"{card.key} has nothing to fetch. Its weights: {card.weights}")
    if published:
        _fetch(published)
    for card in published:
        if output is None:
            print(f"{card.key} is here and verified; nothing more is to be given for it")
        else:
            from rewards.weights.fetch import write_folder

            print(f"--weights {card.name}={write_folder(card, output)}")


@app.command("check")
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="NAME or NAME@VERSION; all where none is given.")
    ] = None,
    reward_sets: RewardSets = None,
    weights: WeightFolders = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Folder of the published pictures; otherwise downloaded."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare weights with the published files and scores with published ones; exit 4 where one is off."""
    from rewards.trust.check import check as check_one

    specs = parse_judges(names or [card.key for card in cards()], reward_sets or (), weights or ())
    findings = [finding for spec in specs for finding in check_one(spec, card_of(spec), pictures)]
    if as_json:
        from dataclasses import asdict

        print_json([asdict(finding) for finding in findings])
    else:
        rows = [(finding.reward, finding.what, finding.result, finding.words) for finding in findings]
        print_table(("reward", "what", "result", "found"), rows)
    _conclude(findings)


def _conclude(findings: "Sequence[Finding]") -> None:
    counts = {result: sum(finding.result == result for finding in findings) for result in ("failed", "lacking")}
    unchecked = sorted({finding.reward for finding in findings if finding.result == "not checked"})
    if unchecked:
        say(f"could not be checked in full, for the reasons above: {', '.join(unchecked)}")
    if counts["failed"]:
        say(f"{counts['failed']} checks failed")
        raise typer.Exit(GATE_FAILED)
    if counts["lacking"]:
        say(f"{counts['lacking']} checks lack their weights, pictures or libraries")
        raise typer.Exit(ENVIRONMENT)


def _fetch(published: Sequence[Card]) -> None:
    from huggingface_hub import constants

    from rewards.weights.fetch import carry_out, check_room, plan

    for card in published:
        say(f"{card.key}, licence: {card.licence}")
    wanted = plan(published)
    print(_render_plan(wanted), file=sys.stderr, flush=True)
    free = check_room(wanted)
    if wanted.remotes:
        count = f"{len(wanted.remotes)} files" if len(wanted.remotes) > 1 else "one file"
        size = format_size(wanted.bytes_to_get)
        say(f"fetching {count}, {size}, into {constants.HF_HUB_CACHE}, where {format_size(free)} are free")
    carry_out(wanted, _watch)


def _render_plan(wanted: "Plan") -> str:
    rows = [
        (
            item.card.key,
            item.file.path,
            "-" if item.size is None else format_size(item.size),
            item.file.origin or "-",
            item.words,
        )
        for item in wanted.items
    ]
    return render_table(("reward", "file", "size", "from", "state"), rows)


@contextmanager
def _watch(remote: "Remote") -> Iterator[Callable[[int], None]]:
    """Shows how far one file is; a small one is only named."""
    total = (remote.size or 0) // MEGABYTE
    say(f"fetching {remote.url}")
    if not total:
        yield lambda done: None
        return
    with Progress(remote.file.path, total, unit="MB", start=remote.done // MEGABYTE) as progress:
        yield lambda done: progress.update(done // MEGABYTE)


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
    if card.files:
        lines.append(f"\nIts files, as they lie in --weights {card.name}=DIR; here now: {tell_stand(card)}")
        table = render_table(("file", "size", "sha256", "from"), [_describe_file(file) for file in card.files])
        lines += [f"  {line}" for line in table.splitlines()]
    return "\n".join(lines)


def _describe_file(file: WeightFile) -> tuple[str, str, str, str]:
    place = " or ".join((file.path, *file.aliases)) + ("" if file.required else " (if there)")
    size = "-" if file.size is None else format_size(file.size)
    return place, size, file.sha256 or "-", file.origin or "-"


def _to_json(card: Card) -> dict[str, Any]:
    from dataclasses import asdict

    return {"key": card.key, **asdict(card), "stand": tell_stand(card)}


def _direction(card: Card) -> str:
    return {True: "higher", False: "lower", None: "neither"}[card.higher_is_better]
