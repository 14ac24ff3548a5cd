"""run.json, of a training (in its run folder) and of an evaluation (in its results folder): what made the numbers.

It carries the version of its form under `schema`. Older versions are brought to the present one as they are read, in
one step for each version; what is read is a plain mapping of the present form, and fields unknown here stay in it.

1   up to release 0.1: a training's record does not say its `kind`
2   both say their `kind`; a results folder keeps its prompts beside the record, in prompts.jsonl
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from rewards.errors import UsageError
from rewards.files import read_json

RECORD_FILE = "run.json"
SCHEMA = 2
TRAINING, EVALUATION = "training", "evaluation"
Kind = Literal["training", "evaluation"]
Record = dict[str, Any]


class OtherKind(ValueError):
    """The record is one, but not of the kind that is asked for."""


@with_config(ConfigDict(extra="allow"))
class Made(TypedDict):
    """What both kinds say of the program and the machine; a caller from Python may leave it out."""

    schema: int
    dgpo: NotRequired[str]
    git: NotRequired[dict[str, Any] | None]
    python: NotRequired[str]
    packages: NotRequired[dict[str, str]]
    hardware: NotRequired[dict[str, Any]]
    platform: NotRequired[str]
    time: NotRequired[str]
    """When the command began, UTC."""
    command_line: NotRequired[list[str]]
    threads: NotRequired[int | None]
    processes: NotRequired[int]
    precision: NotRequired[dict[str, Any] | None]
    """In which precision was computed, and why."""


@with_config(ConfigDict(extra="allow"))
class TrainingRecord(Made):
    """A training; whoever lost it may write {} in its place, so nothing has to be there."""

    kind: Literal["training"]
    prompts: NotRequired[dict[str, Any]]
    """Where the training prompts came from."""
    trusted: NotRequired[list[str]]
    passes: NotRequired[Any]
    """Passes through the network that are planned for an iteration."""
    spent: NotRequired[Any]
    """What the iterations took, when the command ended: their number, hours, and mean seconds by part."""
    reward_provenance: NotRequired[Any]
    """What scores, by reward key; one that is no such mapping tells nothing, and drawing from the run goes on."""
    contents: NotRequired[dict[str, Any]]
    """Hashes of what the run is made from: `model`, `prompts`, `weights` by reward key."""


@with_config(ConfigDict(extra="allow"))
class SuiteFacts(TypedDict):
    name: str
    sha256: str
    source: str
    prompts: int


@with_config(ConfigDict(extra="allow"))
class EvaluationRecord(Made):
    """An evaluation."""

    kind: Literal["evaluation"]
    run: str
    suite: SuiteFacts
    seeds: list[int]
    images: str
    """`images` where they were drawn, else the folder in which they were found."""
    trained_on: list[str] | None
    """Reward keys of the training mix; null for base models and foreign images."""
    rewards: dict[str, dict[str, Any]]
    """By key: what the card says, and the engine and weights that scored."""
    finished: bool
    model: NotRequired[Any]
    sampler: NotRequired[dict[str, Any] | None]


FORMS: dict[Kind, Any] = {TRAINING: TrainingRecord, EVALUATION: EvaluationRecord}


def read_run_record(path: Path, kind: Kind) -> Record:
    """A record of this kind in its present form, from whichever version it was written in.

    Raises:
        FileNotFoundError: there is none.
        OtherKind: it is of the other kind.
        ValueError: it is damaged, in words that follow a colon.
        UsageError: a newer version of the program wrote it.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise OtherKind("it holds no JSON object")
    if record.get("kind", TRAINING) != kind:
        raise OtherKind(f"it is a record of another kind ({record.get('kind', 'none is named')})")
    version = record.get("schema", 1)
    if type(version) is not int or version < 1:
        raise ValueError(f"its schema is {version!r}, which is no version")
    if version > SCHEMA:
        raise UsageError(
            f"{path} was written by a newer version of dgpo: it has schema {version}, and this version reads up to"
            f" schema {SCHEMA}. Use a dgpo at least as new as the one that wrote it"
            + (f" ({record['dgpo']})." if isinstance(record.get("dgpo"), str) else ".")
        )
    for step in range(version, SCHEMA):
        record = MIGRATIONS[step](record)
    try:
        _adapter(kind).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    return record


def stamp(facts: Mapping[str, Any], kind: Kind) -> Record:
    """A record of the present version to write."""
    return {**facts, "schema": SCHEMA, "kind": kind}


def _say_the_kind(record: Record) -> Record:
    return stamp(record, record.get("kind", TRAINING))


# From version N to N + 1, by N.
MIGRATIONS: dict[int, Callable[[Record], Record]] = {1: _say_the_kind}


@cache
def _adapter(kind: Kind) -> TypeAdapter[Any]:
    return TypeAdapter(FORMS[kind], config=None)
