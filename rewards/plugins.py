"""Rewards from outside: cards of installed packages (entry-point group `dgpo.rewards`), and classes in a Python file.

A package's entry point names a Card, or a tuple of Cards, in a module that imports nothing heavy; the card's `entry`
names the class. A class in a file carries its Card as the attribute `card`. Either is used like a built-in reward, by
every command and in every worker process.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rewards.card import Card
from rewards.errors import DgpoError, SetupError, UsageError, suggestion
from rewards.files import sha256, sha256_of
from rewards.scoring.isolation import undisturbed
from rewards.scoring.reward_faults import broke_off

GROUP = "dgpo.rewards"
EXAMPLE = """
    from rewards.card import Card
    from rewards.reward import Reward
    from rewards.score import Score

    class Width(Reward):
        card = Card(name="width", version=1, unit="pixels", bounds=(0, None), higher_is_better=True, summary="width")

        def score(self, images, prompts):
            return [Score(image.width) for image in images]
"""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_METHODS = ("check", "score", "provenance")


@dataclass(frozen=True)
class Plugin:
    """A card from an installed package, written `name version`."""

    card: Card
    package: str


@dataclass(frozen=True)
class Broken:
    """An entry point that gives no usable card, and why; `name` is the entry point's."""

    name: str
    package: str
    reason: str

    @property
    def sentence(self) -> str:
        return f'The plug-in "{self.name}" of {self.package} cannot be used: {self.reason}'


@dataclass(frozen=True)
class Installed:
    """What the installed packages offer."""

    plugins: tuple[Plugin, ...]
    broken: tuple[Broken, ...]


def find_installed(taken: Collection[str]) -> Installed:
    """The cards of all installed plug-ins, packages in alphabetical order; only the modules of the cards are imported.

    Args:
        taken: names that a plug-in may not use, being dgpo's own.

    A name belongs to the first package that uses it.
    """
    owners = dict.fromkeys(taken, "dgpo itself")
    plugins: list[Plugin] = []
    broken: list[Broken] = []
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: (_package(p), p.name)):
        package = _package(point)
        try:
            found = _cards_of(point)
        except SetupError as error:
            broken.append(Broken(point.name, package, str(error)))
            continue
        for card in found:
            owner = owners.setdefault(card.name, package)
            twice = any(plugin.card.key == card.key for plugin in plugins)
            if owner != package or twice:
                reason = f"its reward {card.key} has a name that is already taken by {owner}; rename one of the two"
                broken.append(Broken(point.name, package, reason))
            else:
                plugins.append(Plugin(card, package))
    return Installed(tuple(plugins), tuple(broken))


def load_class(plugin: Plugin) -> Any:
    """The class that an installed plug-in's card names.

    Raises:
        SetupError: it does not import, or is no reward.
        RewardBroken: its module has a mistake.
    """
    module, _, name = plugin.card.entry.partition(":")
    who = f"The reward {plugin.card.key} of {plugin.package}"
    try:
        with undisturbed():
            found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise SetupError(f"{who} does not load ({error}); install what it needs, or ask its author.") from error
    except DgpoError:
        raise
    except (Exception, SystemExit) as error:  # anything can come of a plug-in
        raise broke_off(plugin.card.key, error) from error
    if found is None:
        raise SetupError(f"{who} names the class {plugin.card.entry}, which does not exist; its author can mend that.")
    problem = _lacking(found)
    if problem:
        raise SetupError(f"{who} cannot be used: {problem}.")
    return found


def locate_source(path: str, name: str) -> str:
    """The source of a class in a file as specs and records keep it: absolute path, colon, class."""
    return f"{os.path.abspath(Path(path).expanduser())}:{name}"


def load_source(source: str, taken: Collection[str]) -> tuple[Any, Card]:
    """The class that a source names, and its card with `entry` filled in.

    Raises:
        UsageError: no such file or class, no card, or a card whose name a registered reward has.
        SetupError: the file needs a library that is not installed.
    """
    path, _, name = source.rpartition(":")
    module = _import_file(Path(path))
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(getattr(value, "card", None), Card)]
        hint = suggestion(name, classes) if classes else f" Write for instance:\n{EXAMPLE}"
        raise UsageError(f"{path} has no class {name}.{hint}")
    card = getattr(found, "card", None)
    if not isinstance(card, Card):
        raise UsageError(f"The class {name} in {path} has no card. Write for instance:\n{EXAMPLE}")
    problem = _flaw(card) or _lacking(found)
    if problem:
        raise UsageError(f"The class {name} in {path} cannot be used as a reward: {problem}.")
    if card.name in taken:
        raise UsageError(
            f"The class {name} in {path} calls itself {card.name}, which is the name of a registered reward; "
            "give its card another name."
        )
    return found, replace(card, entry=source)


def fingerprint(source: str) -> str:
    """File name, class and content of a source, for the record of a run; the same wherever the file lies."""
    path, _, name = source.rpartition(":")
    return f"{Path(path).name}:{name} sha256:{sha256(Path(path))}"


@cache
def _import_file(path: Path) -> Any:
    """Import a file once, under a name that no other file has."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file. A reward of your own is written path/to/file.py:Class.")
    name = f"dgpo_reward_{path.stem}_{sha256_of(str(path))[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file; a reward of your own is written path/to/file.py:Class.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with undisturbed():
            spec.loader.exec_module(module)
    except DgpoError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{path}, line {error.lineno}: this is not Python ({error.msg}).") from error
    except ModuleNotFoundError as error:
        raise SetupError(f"{path} needs {error.name}, which is not installed here.") from error
    except (Exception, SystemExit) as error:  # anything can come of a plug-in
        raise broke_off(f"file {path}", error) from error
    return module


def _package(point: importlib.metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def _cards_of(point: importlib.metadata.EntryPoint) -> tuple[Card, ...]:
    try:
        with undisturbed():
            given = point.load()
    except (Exception, SystemExit) as error:  # anything can come of a plug-in, and the others go on
        raise SetupError(f"{point.value} does not import ({type(error).__name__}: {error})") from error
    found = given if isinstance(given, tuple) else (given,)
    for card in found:
        if not isinstance(card, Card):
            raise SetupError(f"{point.value} is no rewards.card.Card but of type {type(card).__name__}")
        if not re.fullmatch(r"[\w.]+:\w+", card.entry):
            raise SetupError(f'the entry of {card.key} is "{card.entry}", and should be "module:Class"')
        problem = _flaw(card)
        if problem:
            raise SetupError(problem)
    return found


def _flaw(card: Card) -> str:
    """What is wrong with a card, or nothing."""
    if not _NAME.fullmatch(card.name):
        return f'the name "{card.name}" of its card has other characters than letters, digits, ".", "_" and "-"'
    if not isinstance(card.version, int) or card.version < 1:
        return f"the version {card.version!r} of its card is not a whole number from 1 up"
    if card.higher_is_better is False and card.train_scale > 0:
        return "lower is better for it, so the train_scale of its card has to be negative"
    return ""


def _lacking(found: Any) -> str:
    absent = [name for name in _METHODS if not callable(getattr(found, name, None))]
    return f"it has no method {', '.join(absent)}; derive it from rewards.reward.Reward" if absent else ""
