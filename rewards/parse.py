"""Specs from words: how a reward is named on the command line, in a recipe, or in a record."""

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from rewards.card import Card, Option
from rewards.catalogue import BUNDLES
from rewards.errors import UsageError
from rewards.plugins import EXAMPLE, load_source, locate_source
from rewards.registry import cards, find_card, names, unknown
from rewards.remote.address import is_address, split_address
from rewards.spec import RewardSpec

_Setting: TypeAlias = tuple[tuple[str, ...], str, str, str]
_Folder: TypeAlias = tuple[tuple[str, ...], str, str]
_SPEC = re.compile(r"(?P<name>[^@\[\]=]+)(@(?P<version>[^\[\]=]*))?(\[(?P<options>[^\[\]]*)\])?(=(?P<weight>.*))?")
_FILE = re.compile(r"(?P<path>.+\.py)(:(?P<name>[^:@\[\]=]*))?(\[(?P<options>[^\[\]]*)\])?(=(?P<weight>.*))?")


def spec_from_json(fields: Mapping[str, Any]) -> RewardSpec:
    """The spec that `RewardSpec.to_json` wrote; checked again, as it may come from an older release."""
    name, version, source = fields["name"], fields["version"], fields.get("source")
    if source is not None and is_address(source):
        options = tuple(sorted(fields.get("options", {}).items()))
        return RewardSpec(name, version, options, None, float(fields.get("train_weight", 1.0)), source)
    card = find_card(name, version) if source is None else load_source(source, names())[1]
    if (card.name, card.version) != (name, version):
        raise UsageError(f"{source} is now {card.key}, and {name}@{version} is asked for; bring that file back.")
    spec = _settle(card, fields.get("options", {}).items(), float(fields.get("train_weight", 1.0)))
    return replace(spec, weights=fields.get("weights"), source=source)


def make_spec(name: str, version: int | None, options: Iterable[tuple[str, str]], train_weight: float) -> RewardSpec:
    """A checked spec in normal form: newest version unless named, defaults left out, options sorted."""
    return _settle(find_card(name, version), options, train_weight)


def anchor(text: str) -> str:
    """The same reward in words that mean it in any working directory: a file's path made absolute."""
    match = _match_file(text)
    if match is None or not match["name"]:
        return text
    return locate_source(match["path"], match["name"]) + text.strip()[match.end("name") :]


def named_file(text: str) -> str | None:
    """The absolute path of the Python file that these words name as a reward, if they do.

    >>> named_file("/rewards/file.py:Class[judge=http://gpu1:8000]=0.5")
    '/rewards/file.py'
    """
    match = _match_file(text)
    return None if match is None else os.path.abspath(os.path.expanduser(match["path"]))


def _match_file(text: str) -> re.Match[str] | None:
    return None if is_address(text) else _FILE.fullmatch(text.strip())


def _settle(card: Card, options: Iterable[tuple[str, str]], train_weight: float) -> RewardSpec:
    values = card.settle_options(options)
    chosen = tuple(sorted((option.name, values[option.name]) for option in card.options if _differs(option, values)))
    return RewardSpec(card.name, card.version, chosen, None, train_weight)


def parse_rewards(texts: Sequence[str], sets: Sequence[str] = (), weights: Sequence[str] = ()) -> list[RewardSpec]:
    """Specs from the command line's words.

    Args:
        texts: NAME, NAME@VERSION, NAME[option=value,...], NAME@1[option=value], path/to/file.py:Class[option=value] or
            http(s)://host:port/NAME, =WEIGHT behind it if wanted; the name of a bundle stands for its members.
        sets: NAME.OPTION=VALUE, for every given variant of that reward.
        weights: NAME=DIR, a local folder of weights for every given variant of that reward, and for those others that
            read the same files and were given no folder of their own (geneval and geneval-official, say).

    Raises:
        UsageError: an unknown name, version, option or value, a reward given twice, a setting without its reward.
        SetupError: a server that does not answer.
    """
    return _make_specs([one for text in texts for one in _parse(text)], sets, weights)


def parse_judges(texts: Sequence[str], sets: Sequence[str] = (), weights: Sequence[str] = ()) -> list[RewardSpec]:
    """The same, where every reward judges by itself: UsageError for a =WEIGHT, which only means something in a mix."""
    asked = [(text, one) for text in texts for one in _parse(text)]
    for text, one in asked:
        if one.weight is not None:
            name = text.rpartition("=")[0]
            raise UsageError(
                f'"{text}": a weight is for a training mix. Here every reward is reported by itself: write {name}.'
            )
    return _make_specs([one for _, one in asked], sets, weights)


def _make_specs(asked: "Sequence[_Asked]", sets: Sequence[str], weights: Sequence[str]) -> list[RewardSpec]:
    given = {one.card.name for one in asked if not one.served}
    settings = [_parse_setting(text, given) for text in sets]
    folders = _share([_parse_folder(text, given) for text in weights], [one.card for one in asked if not one.served])
    for members, word in [(s[0], s[3]) for s in settings] + [(f[0], f[2]) for f in folders]:
        if not given.intersection(members):
            raise UsageError(
                f'"{word}" is for the reward {members[0]}, which is not among those given'
                + (" (what a server scores, it was started with)." if any(one.served for one in asked) else ".")
            )

    specs: dict[str, RewardSpec] = {}
    for card, options, given_weight, source in asked:
        weight = 1.0 if given_weight is None else given_weight
        if source is not None and is_address(source):
            spec = RewardSpec(card.name, card.version, tuple(options.items()), None, weight, source)
        else:
            spec = _settle(card, _merge(card.name, options, settings).items(), weight)
            folder = [path for members, path, _ in folders if card.name in members]
            spec = replace(spec, weights=folder[-1] if folder else None, source=source)
        if spec.key in specs:
            raise UsageError(f"The reward {spec.key} is given twice; give it once, with one weight.")
        specs[spec.key] = spec
    return list(specs.values())


class _Asked(NamedTuple):
    """One reward as the command line names it."""

    card: Card
    options: dict[str, str]
    weight: float | None
    source: str | None

    @property
    def served(self) -> bool:
        return self.source is not None and is_address(self.source)


def _differs(option: Option, values: Mapping[str, str]) -> bool:
    return values[option.name] != option.default


def _parse(text: str) -> list[_Asked]:
    if is_address(text):
        return _parse_served(text)
    match = _match_file(text)
    if match is not None:
        return [_parse_file(text, match)]
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f'"{text}" does not name a reward; write NAME, NAME@VERSION, NAME[option=value], path/to/file.py:Class or '
            "http://host:port/NAME."
        )
    version = _parse_version(text, match["version"]) if match["version"] is not None else None
    options = _parse_options(text, match["options"])
    weight = _parse_weight(text, match["weight"])
    return [_Asked(find_card(name, version), options, weight, None) for name in expand(match["name"].strip())]


def _parse_served(text: str) -> list[_Asked]:
    from rewards.remote.client import find_served

    address, weight_text = split_address(text)
    weight = _parse_weight(text, weight_text)
    return [_Asked(one.card, dict(one.options), weight, source) for one, source in find_served(address)]


def _parse_file(text: str, match: re.Match[str]) -> _Asked:
    name = (match["name"] or "").strip()
    if not name.isidentifier():
        raise UsageError(
            f'"{text}" names a file and no class in it; write path/to/file.py:Class. Such a file says for instance:'
            f"\n{EXAMPLE}"
        )
    source = locate_source(match["path"], name)
    _, card = load_source(source, names())
    return _Asked(card, _parse_options(text, match["options"]), _parse_weight(text, match["weight"]), source)


def expand(name: str, given: Collection[str] = ()) -> tuple[str, ...]:
    """The rewards that a name stands for: itself, or the members of a bundle; `given` names are known besides."""
    if name in BUNDLES:
        return BUNDLES[name]
    if name not in given and name not in names():
        raise unknown(name)
    return (name,)


def _parse_version(text: str, version: str) -> int:
    if not re.fullmatch(r"[0-9]+", version):
        raise UsageError(f'"{text}": the version behind @ is a whole number, as in ocr@1.')
    return int(version)


def _parse_weight(text: str, weight: str | None) -> float | None:
    if weight is None:
        return None
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f'"{text}": the weight behind = is a number, as in ocr=0.8.')
    return value


def _parse_options(text: str, options: str | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in (options or "").split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not part.strip():
            continue
        if not (name and equals and value):
            raise UsageError(f'"{text}": an option is written name=value, as in ocr[weights=v4].')
        if name in values:
            raise UsageError(f'"{text}": the option {name} is given twice.')
        values[name] = value
    return values


def _parse_setting(text: str, given: Collection[str]) -> _Setting:
    target, equals, value = text.partition("=")
    name, dot, option = target.strip().rpartition(".")
    if not (equals and dot and name and option and value.strip()):
        raise UsageError(f'"{text}": a setting is written NAME.OPTION=VALUE, as in ocr.engine=paddleocr.')
    return expand(name, given), option, value.strip(), text


def _parse_folder(text: str, given: Collection[str]) -> _Folder:
    name, equals, folder = text.partition("=")
    if not (equals and name.strip() and folder.strip()):
        raise UsageError(f'"{text}": a weights folder is written NAME=DIR, as in ocr=models/ocr.')
    return expand(name.strip(), given), folder.strip(), text


def _share(folders: Sequence[_Folder], asked: Sequence[Card]) -> list[_Folder]:
    """Each folder also for the rewards that read the same files and were given none."""
    named = {name for members, _, _ in folders for name in members}

    def reads(card: Card, members: Collection[str]) -> bool:
        files = [known.files for known in cards() if known.name in members]
        return card.name not in named and bool(card.files) and card.files in files

    return [
        ((*members, *(card.name for card in asked if reads(card, members))), path, text)
        for members, path, text in folders
    ]


def _merge(name: str, options: Mapping[str, str], settings: Sequence[_Setting]) -> dict[str, str]:
    merged = dict(options)
    for members, option, value, text in settings:
        if name not in members:
            continue
        if merged.get(option, value) != value:
            raise UsageError(f'"{text}": the option {option} of {name} is already given as {merged[option]}.')
        merged[option] = value
    return merged
