"""GenEval's prompts: the 553 published ones, further ones by the same rules, and an endless stream to train on.

Source: prompts/create_prompts.py of github.com/djghosh13/geneval at af4902f24d3ca90ebbb446dd9891a59e0f82725f. Its lists
are drawn, not written by hand, so they are drawn here again, byte for byte, and checked by their SHA-256. A record is a
dict with the keys tag, include, exclude (of counting only) and prompt, in this order.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from rewards.errors import SetupError, UsageError
from rewards.files import sha256_of
from rewards.geneval.geometry import RELATIONS
from rewards.geneval.objects import COLOURS, OBJECTS, plural, with_article
from rewards.prompt import Prompt

SOURCE = "prompts/create_prompts.py of github.com/djghosh13/geneval at af4902f24d3ca90ebbb446dd9891a59e0f82725f"
OFFICIAL_SEED = 43
OFFICIAL_PER_TASK = 100
OFFICIAL_PROMPTS = 553
METADATA_SHA256 = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"  # evaluation_metadata.jsonl
PROMPTS_SHA256 = "55b6e3650e980c13daf30569eb666e000faf19bfc2b7b4cbe999fcdb7aa9d680"  # generation_prompts.txt

# How often each task is asked in training, by the released merge_genevaltask.py; single_object is not.
TRAINING_WEIGHTS: Mapping[str, float] = {
    "position": 0.7, "counting": 0.5, "color_attr": 0.3, "colors": 0.1, "two_object": 0.1,
}  # fmt: skip

Record: TypeAlias = dict[str, Any]
_PATIENCE = 10_000  # draws of one task before all of its prompts are taken to be excluded
_NUMBERS = {2: "two", 3: "three", 4: "four"}
_PERSON = OBJECTS.index("person")  # never asked in a colour


def generate(seed: int = OFFICIAL_SEED, per_task: int = OFFICIAL_PER_TASK) -> list[Record]:
    """The records that the published program draws: single_object asks for each of the 80 objects once, whatever the
    size, and the other five tasks are drawn `per_task` times each; later duplicates are left out.

    With the published seed and size these are the published records.

    >>> len(generate(per_task=1)), generate(per_task=1)[80]["prompt"]
    (85, 'a photo of a bench and a sports ball')
    """
    if per_task < 1:
        raise UsageError(f"GenEval needs at least one prompt per task, and {per_task} were asked for (--per-task).")
    if seed < 0:
        raise UsageError(f"A seed is 0 or more, and {seed} was given (--seed).")
    random = np.random.default_rng(seed)
    drawn = chain(
        _single_objects(random),
        *([draw(random) for _ in range(per_task)] for draw in _DRAW.values()),
    )
    return list({to_line(record): record for record in drawn}.values())


@cache
def official_prompts() -> tuple[Prompt, ...]:
    """The 553 published prompts, in the published order, with tag, include and exclude as their spec."""
    records = generate()
    check_sha256(to_lines(records), METADATA_SHA256)
    return tuple(to_prompt(record) for record in records)


def training_stream(
    seed: int,
    weights: Mapping[str, float] = TRAINING_WEIGHTS,
    excluded: Iterable[Prompt] | None = None,
) -> Iterator[Prompt]:
    """Endless prompts to train on: a task by its weight, then a prompt by the task's own rule, none of them excluded.

    Published are the rules, the weights (0.7 position, 0.5 counting, 0.3 color_attr, 0.1 colors, 0.1 two_object, which
    are divided by their sum) and that test prompts are left out. The published list of 50,000 was drawn without a seed
    and cannot be drawn again; the order here is ours, a function of `seed` alone. Excluded are all prompts whose text
    is that of one in `excluded`, the official 553 if not given; another prompt of the same task takes their place, so
    that the weights hold. Prompts repeat: counting has only 240 to choose from.

    Raises:
        UsageError: every prompt of a task is excluded.
    """
    unknown = sorted(set(weights) - set(_DRAW))
    if unknown or not weights:
        raise ValueError(f"training draws from {', '.join(_DRAW)}; not from {', '.join(unknown) or 'nothing'}")
    random = np.random.default_rng(seed)
    texts = {prompt.text for prompt in (official_prompts() if excluded is None else excluded)}
    tasks = list(weights)
    shares = np.array([weights[task] for task in tasks])
    shares = shares / shares.sum()
    while True:
        task = tasks[random.choice(len(tasks), p=shares)]
        drawn = (_DRAW[task](random) for _ in range(_PATIENCE))
        record = next((record for record in drawn if record["prompt"] not in texts), None)
        if record is None:
            raise UsageError(f"GenEval's task {task} has no prompt left to train on: all that were drawn are excluded.")
        yield to_prompt(record)


def to_prompt(record: Record) -> Prompt:
    spec = dict(record)
    return Prompt(spec.pop("prompt"), spec)


def to_record(prompt: Prompt) -> Record:
    return {**prompt.spec, "prompt": prompt.text}


def to_line(record: Record) -> str:
    """A record as one line of the published evaluation_metadata.jsonl."""
    return json.dumps(record)


def to_lines(records: Iterable[Record]) -> bytes:
    """The bytes of the file evaluation_metadata.jsonl that holds these records."""
    return "".join(f"{to_line(record)}\n" for record in records).encode()


def check_sha256(content: bytes, expected: str) -> None:
    """Raise SetupError if `content` is not what was published: another numpy might draw differently one day."""
    found = sha256_of(content)
    if found != expected:
        raise SetupError(
            f"The GenEval prompts drawn here have the SHA-256 {found} and not {expected}: numpy {np.__version__} draws"
            " other numbers than the versions that were checked. Install one of those: numpy 2.3 or 2.4."
        )


def _single_objects(random: np.random.Generator) -> list[Record]:
    """Every object once, in a drawn order."""
    indices = random.choice(len(OBJECTS), size=len(OBJECTS), replace=False)
    return [_record("single_object", [_clause(index)], _named(index)) for index in indices]


def _two_objects(random: np.random.Generator) -> Record:
    a, b = random.choice(len(OBJECTS), size=2, replace=False)
    return _record("two_object", [_clause(a), _clause(b)], f"{_named(a)} and {_named(b)}")


def _counting(random: np.random.Generator) -> Record:
    index = random.choice(len(OBJECTS))
    count = int(random.integers(2, 4, endpoint=True))
    words = f"{_NUMBERS[count]} {plural(OBJECTS[index])}"
    return _record("counting", [_clause(index, count)], words, exclude=[_clause(index, count + 1)])


def _colors(random: np.random.Generator) -> Record:
    index = _without_person(random.choice(len(OBJECTS) - 1))
    colour = COLOURS[random.choice(len(COLOURS))]
    return _record("colors", [_clause(index, color=colour)], _named(index, colour))


def _position(random: np.random.Generator) -> Record:
    a, b = random.choice(len(OBJECTS), size=2, replace=False)
    relation = RELATIONS[random.choice(len(RELATIONS))]
    include = [_clause(b), _clause(a, position=[relation, 0])]
    return _record("position", include, f"{_named(a)} {relation} {_named(b)}")


def _color_attr(random: np.random.Generator) -> Record:
    a, b = map(_without_person, random.choice(len(OBJECTS) - 1, size=2, replace=False))
    first, second = (COLOURS[index] for index in random.choice(len(COLOURS), size=2, replace=False))
    include = [_clause(a, color=first), _clause(b, color=second)]
    return _record("color_attr", include, f"{_named(a, first)} and {_named(b, second)}")


# The order is the one in which the published lists were drawn from one generator.
_DRAW: Mapping[str, Callable[[np.random.Generator], Record]] = {
    "two_object": _two_objects,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
}


def _without_person(index: int) -> int:
    return (index + 1 + _PERSON) % len(OBJECTS)


def _named(index: int, colour: str = "") -> str:
    return with_article(f"{colour} {OBJECTS[index]}".lstrip())


def _clause(index: int, count: int = 1, **further: Any) -> Record:
    return {"class": OBJECTS[index], "count": count, **further}


def _record(tag: str, include: list[Record], words: str, **exclude: list[Record]) -> Record:
    return {"tag": tag, "include": include, **exclude, "prompt": f"a photo of {words}"}
