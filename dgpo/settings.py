"""Settings as text: YAML in which a number is what it looks like, and nothing hides.

YAML 1.1, as PyYAML reads it, makes 8 of 010, 90 of 1:30, true of yes and text of 1e-4, and takes the last of two equal
names. Here numbers are decimal, only true and false are truth values, and a name stands once. Anchors and tags are
refused: settings need none, and a few lines of anchors unfold to gigabytes.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rewards.errors import UsageError

LARGEST_FILE, DEEPEST = 1_000_000, 20
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE, _FALSE = re.compile(r"true|True|TRUE"), re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9_]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

Settings = dict[str, Any]
Lines = dict[str, int]


def read_settings(path: Path) -> tuple[Settings, Lines]:
    """The settings in a file, and the line of each by its dotted name.

    Raises:
        UsageError: the file is no text, no YAML, or holds something else than `name: value` lines.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise UsageError(f"{path} is larger than any file of settings ({LARGEST_FILE} bytes).")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise UsageError(f"{path} is not UTF-8 text ({where}); save it as UTF-8.") from None
    lines: Lines = {}
    values = _parse(text, str(path), lines)
    if values is None:
        return {}, lines
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold settings as `name: value` lines.")
    return values, lines


def parse_setting(text: str, example: str = "optimizer.learning_rate=1e-4") -> tuple[str, Any]:
    """The dotted name and the value in the NAME=VALUE of a `--set`.

    >>> parse_setting("sampling.steps=20")
    ('sampling.steps', 20)
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set takes NAME=VALUE, for instance --set {example}; got {text!r}.")
    return name.strip(), _parse(value, f"--set {text}: the value", {})


def dump_settings(values: Mapping[str, Any]) -> str:
    """Text that `read_settings` reads as the same values.

    >>> print(dump_settings({"model": "1e5", "steps": 3, "drift": "off", "optimizer": {"learning_rate": 1e-4}}), end="")
    model: '1e5'
    steps: 3
    drift: 'off'
    optimizer:
      learning_rate: 0.0001
    """
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 reads as something else than text, and what is a number here only."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if _FLOAT.fullmatch(text) else None)


_Dumper.add_representer(str, _represent_text)


def _parse(text: str, source: str, lines: Lines) -> Any:
    try:
        _refuse_extras(yaml.parse(text, Loader=yaml.SafeLoader))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _build(node, "", lines)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{source} is not valid YAML: {_problem(error)}.") from None


def _refuse_extras(events: Iterable[Any]) -> None:
    """What settings do not need, before anything is built of it."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem="nested too deep for settings", problem_mark=event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not taken here", problem_mark=event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags are not taken here", problem_mark=event.start_mark)


def _build(node: Any, name: str, lines: Lines) -> Any:
    lines.setdefault(name, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, name, lines) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        values: Settings = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a name is expected here", problem_mark=key.start_mark)
            if key.value in values:
                raise yaml.MarkedYAMLError(problem=f'"{key.value}" is set twice', problem_mark=key.start_mark)
            values[key.value] = _build(value, f"{name}.{key.value}" if name else key.value, lines)
        return values
    return _read_plain(node.value) if node.style is None else node.value


def _read_plain(text: str) -> Any:
    """What unquoted text stands for.

    >>> [_read_plain(text) for text in ("10", "1e-4", "true", "010", "1:30", "yes", "~")]
    [10, 0.0001, True, '010', '1:30', 'yes', None]
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def _problem(error: Exception) -> str:
    """What is wrong and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem is not None:
        mark = error.problem_mark
        return error.problem if mark is None else f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(error).split())
