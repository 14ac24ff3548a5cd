"""What a GenEval prompt asks for, read from its spec once and checked before any picture is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.errors import UsageError, suggestion
from rewards.geneval.geometry import RELATIONS
from rewards.geneval.objects import COLOURS, OBJECTS
from rewards.prompt import Prompt


@dataclass(frozen=True)
class Clause:
    """`count` objects of class `name`, in a colour, and in a relation to the objects of an earlier clause, if asked."""

    name: str
    count: int
    colour: str | None = None
    relation: str | None = None
    target: int | None = None

    @property
    def words(self) -> str:
        """How the reasons call these objects: "dog", or "red dog" once their colour was looked at."""
        return f"{self.colour} {self.name}" if self.colour else self.name


@dataclass(frozen=True)
class Request:
    """All that one prompt asks for; `exclude` names what must stay below a count."""

    tag: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...]


def read_request(prompt: Prompt) -> Request:
    """The clauses of a prompt whose spec is a GenEval record: tag, include, exclude.

    Raises:
        UsageError: names the prompt and what is missing, unknown or would be ignored without a word.
    """
    try:
        tag = prompt.spec.get("tag")
        if not isinstance(tag, str):
            raise UsageError('its spec has no "tag" (the task, such as "counting").')
        include = tuple(
            _read(fields, place, ("class", "count", "color", "position"))
            for place, fields in enumerate(_listed(prompt.spec, "include"))
        )
        exclude = tuple(_read(fields, 0, ("class", "count")) for fields in _listed(prompt.spec, "exclude"))
        if not include and not exclude:
            raise UsageError('it asks for nothing, as both "include" and "exclude" are empty.')
    except UsageError as error:
        raise UsageError(
            f'GenEval cannot judge the prompt "{prompt.text}": {error} Its prompts are records as'
            " `dgpo suites show geneval --format jsonl` prints them."
        ) from None
    return Request(tag, include, exclude)


def _listed(spec: Mapping[str, Any], key: str) -> Sequence[Any]:
    clauses = spec.get(key, [])
    if not isinstance(clauses, list | tuple):
        raise UsageError(f'"{key}" is not a list.')
    return clauses


def _read(fields: Any, place: int, known: Sequence[str]) -> Clause:
    if not isinstance(fields, Mapping):
        raise UsageError(f"the clause {fields!r} is not an object.")
    name, count, colour = fields.get("class"), fields.get("count"), fields.get("color")
    unknown = [key for key in fields if key not in known]
    if unknown:
        raise UsageError(f'the clause {dict(fields)} has a field "{unknown[0]}", and only {", ".join(known)} are read.')
    if name not in OBJECTS:
        raise UsageError(f'"{name}" is none of the {len(OBJECTS)} objects.{suggestion(str(name), OBJECTS)}')
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"the count of {name} is {count!r} and not a whole number from 1.")
    if colour is not None and colour not in COLOURS:
        raise UsageError(f'"{colour}" is no colour.{suggestion(str(colour), COLOURS)}')
    return Clause(name, count, colour, *_read_position(name, fields.get("position"), place))


def _read_position(name: str, position: Any, place: int) -> tuple[str | None, int | None]:
    if position is None:
        return None, None
    if not isinstance(position, list | tuple) or len(position) != 2 or position[0] not in RELATIONS:
        raise UsageError(f"the position of {name} is {position!r} and not [{' | '.join(RELATIONS)}, clause number].")
    relation, target = position
    if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < place:
        raise UsageError(f"{name} should be {relation} clause {target!r}, which is no earlier clause.")
    return relation, target
