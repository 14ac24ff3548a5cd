"""Fetch the published weights of rewards: say what and how much, then download what is not here, and verify all.

What was fetched is found by `folder.locate`. The same call again verifies, and goes on where it stopped.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rewards.card import Card, WeightFile
from rewards.errors import SetupError
from rewards.weights.download import NotPublished, Remote, Report, download, look_up
from rewards.weights.folder import cache_place, compare, format_size, locate

# What is left free beside the weights, so that the machine goes on working.
RESERVE = 100 * 10**6
Watch = Callable[[Remote], AbstractContextManager[Report]]


@dataclass(frozen=True)
class Item:
    """One file of a reward: on this machine (`words` say how it compares), to be got (`remote`), or not to be had."""

    card: Card
    file: WeightFile
    words: str
    remote: Remote | None = None
    bytes_here: int | None = None

    @property
    def size(self) -> int | None:
        return self.bytes_here if self.remote is None else self.remote.size


@dataclass(frozen=True)
class Plan:
    """Everything that the rewards need, and what of it is still to be got; a file that two share is got once."""

    items: tuple[Item, ...]

    @property
    def remotes(self) -> list[Remote]:
        return list({item.remote.place: item.remote for item in self.items if item.remote is not None}.values())

    @property
    def bytes_to_get(self) -> int:
        """As far as their servers tell."""
        return sum((remote.size or 0) - remote.done for remote in self.remotes)


def plan(cards: Sequence[Card]) -> Plan:
    """Verify what is here, and ask the servers about the rest; nothing is downloaded yet.

    Raises:
        SetupError: something is to be got, and HF_HUB_OFFLINE is set, or its server cannot be reached, refuses, or
            offers another file than the card names.
    """
    return Plan(tuple(_examine(card, file) for card in cards for file in card.files))


def check_room(wanted: Plan) -> int:
    """Free bytes where the cache lies.

    Raises:
        SetupError: they are too few for what is to be got.
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    free = _free(cache)
    if wanted.remotes and wanted.bytes_to_get + RESERVE > free:
        raise SetupError(
            f"{format_size(wanted.bytes_to_get)} are to be fetched, and {cache} has {format_size(free)} free. Make "
            "room, or choose a roomier place for the cache: export HF_HUB_CACHE=DIR"
        )
    return free


def carry_out(wanted: Plan, watch: Watch) -> None:
    """Download what the plan lacks, each file verified and put in its place before the next begins.

    Args:
        watch: called for each file; what it returns is entered around the download, and gives what is called with the
            number of bytes as they come.
    """
    for remote in wanted.remotes:
        with watch(remote) as report:
            download(remote, report)


def write_folder(card: Card, output: Path) -> Path:
    """A folder for --weights of what was fetched, laid out as the reward reads it; hard links where possible.

    Raises:
        SetupError: it cannot be written.
    """
    folder = output / card.name
    for name, path in locate(card, None).items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(path.resolve(), target)
        except OSError as error:
            reason = error.strerror or error
            raise SetupError(f"{target} cannot be written ({reason}); choose another --output DIR.") from error
    return folder


def _examine(card: Card, file: WeightFile) -> Item:
    place = cache_place(file)
    if place is None:
        return Item(card, file, "not published; used where a --weights folder has it")
    words = "to fetch"
    if place.is_file():
        comparison = compare(place, file)
        if comparison.same is not False:
            words = "here, as published" if comparison.same else "here; nobody has published its hash"
            return Item(card, file, words, bytes_here=place.stat().st_size)
        words = f"here, but not as published ({comparison.words}); to fetch again"
    if _is_offline():
        if file.required:
            raise _refuse_offline(card, file, place)
        return Item(card, file, "not here and not needed")
    try:
        remote = look_up(file)
    except NotPublished:
        if file.required:
            raise
        return Item(card, file, "its repository has none; not needed")
    if remote.done:
        words = f"begun, {format_size(remote.done)} are here"
    return Item(card, file, words, remote)


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _refuse_offline(card: Card, file: WeightFile, place: Path) -> SetupError:
    return SetupError(
        f"{card.key} needs {file.path}, which is not at {place} (or not as published), and HF_HUB_OFFLINE is set. "
        f"Unset it to fetch; or, on a machine that has a network, run `dgpo rewards fetch {card.name} --output DIR`, "
        f"bring DIR here and give --weights {card.name}=DIR/{card.name}."
    )


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _copy(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
