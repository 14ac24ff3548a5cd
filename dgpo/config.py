"""What a run is told: every setting, what it means, and which values make sense.

YAML in, YAML out (`config.yaml` in the run folder). An unknown key or an impossible value is an error with a sentence.
A config is a value: reading one asks nobody and loads nothing.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError, create_model, field_validator, model_validator

from dgpo.algorithms.algorithm import ALGORITHMS, find_algorithm, section_of
from dgpo.places import anchor_places
from dgpo.precision import Precision
from dgpo.sections import (
    Advantage,
    Averages,
    Checkpoint,
    Count,
    Evaluation,
    Every,
    Optimizer,
    Rollout,
    Sampling,
    Section,
    Seed,
    Source,
    Training,
    Watch,
    Whole,
)
from dgpo.settings import parse_setting, read_settings
from rewards.errors import UsageError, suggestion
from rewards.parse import anchor

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_ALGORITHM = "dgpo"
# Settings that had other names in earlier versions, and are still read by them.
RENAMED = {
    **{f"objective.{name}": f"dgpo.{name}" for name in ("beta", "kl", "clip", "reference", "reference_guidance")},
    "times.count": "dgpo.times",
    "times.min_sigma": "dgpo.min_sigma",
    "times.one_update": "dgpo.one_update",
    "averages.old_decay": "dgpo.old_decay",
    "averages.old_growth": "dgpo.old_growth",
}


class Config(Section):
    model: str = "tiny"
    """`tiny`, a local diffusers folder, or OWNER/NAME[@REVISION] of the hub, of a family that can be trained
    (`dgpo models ls`)."""
    algorithm: str = DEFAULT_ALGORITHM
    """The learning algorithm (`dgpo algorithms ls`); its own settings stand in the section that has its name."""
    rewards: tuple[str, ...] = ()
    """Reward specs, as `--reward` takes them."""
    reward_set: tuple[str, ...] = ()
    """Reward options, as `--reward-set` takes them."""
    weights: tuple[str, ...] = ()
    """Folders of reward weights, as `--weights` takes them."""
    prompts: str | None = None
    """Prompt file or suite to train on; none means the model's own training prompts."""
    data: str | None = None
    """A folder that has the published prompt files (DrawBench, ...); none means the cache, or fetching them."""
    steps: Count = 200
    """Iterations: one rollout with its updates each."""
    seed: Seed = 0
    """All randomness follows from it; any number of 64 bits."""
    groups: Count = 8
    """Prompts per iteration (K)."""
    group_size: Count = 16
    """Images per prompt (G)."""
    max_failed: Whole = 0
    """Failed scores allowed in an iteration; one more stops the run, resumable."""
    workers: Whole = 1
    """Scoring processes; 0 scores in the training process."""
    training: Training = Training()
    sampling: Sampling = Sampling()
    rollout: Rollout = Rollout()
    source: Source = Source()
    advantage: Advantage = Advantage()
    optimizer: Optimizer = Optimizer()
    averages: Averages = Averages()
    evaluation: Evaluation = Evaluation()
    watch: Watch = Watch()
    checkpoint: Checkpoint = Checkpoint()
    samples: Every = Every(every=25)

    @field_validator("rewards")
    @classmethod
    def _anchored(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        """A run may be continued and evaluated from another working directory."""
        return tuple(anchor(text) for text in texts)

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.group_size < 2:
            raise ValueError("group_size is 1, but a group teaches by comparing its images; use 2 or more")
        return self

    @property
    def learning(self) -> Any:
        """The section of the algorithm, an instance of its `Settings`."""
        return getattr(self, section_of(self.algorithm))

    def in_precision(self, precision: Precision) -> "Config":
        """The same with its precision settled: the run, and whoever repeats it, keeps it on any machine."""
        return self.model_copy(update={"training": self.training.model_copy(update={"dtype": precision})})

    def __reduce__(self) -> Any:
        """The class is made for the algorithm, so that other processes are told how to make it."""
        return _from_values, (self.model_dump(),)

    @property
    def images(self) -> int:
        """Images per iteration, over all ranks."""
        return self.groups * self.group_size


def load_config(
    recipe: str | Path,
    overrides: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    on_note: Callable[[str], None] = lambda sentence: None,
) -> Config:
    """The config of a recipe (a name or a YAML file), changed by `overrides` and by `--set a.b=value` texts.

    `on_note` is told of settings that are given by a name which they had in an earlier version.

    Raises:
        UsageError: names each wrong setting, and where it was given.
    """
    path = find_recipe(recipe)
    values, lines = read_settings(path)
    given = {name: (value, "on the command line") for name, value in (overrides or {}).items()}
    for text in sets:
        name, value = parse_setting(text)
        given[name] = (value, f"by --set {text}")
    renamed = rename(values)
    for name, (value, _) in given.items():
        if name in RENAMED:
            renamed.append(name)
        place(values, RENAMED.get(name, name).split("."), value)
    renamed += rename(values)  # of a whole section that was given at once
    for name in dict.fromkeys(renamed):
        on_note(f"the setting {name} is called {RENAMED[name]} now")
    origins = {RENAMED.get(name, name): origin for name, (_, origin) in given.items()}
    places = {RENAMED.get(name, name): line for name, line in lines.items()}

    def source(name: str) -> str:
        """Who gave a setting, or what stands in it, or the section or list it stands in."""
        within = [origin for one, origin in origins.items() if one.startswith(f"{name}.")]
        if within:
            return " and ".join(dict.fromkeys(within))
        while name:
            if name in origins:
                return origins[name]
            if name in places:
                return f"{path}, line {places[name]}"
            name = name.rpartition(".")[0]
        return str(path)

    return anchor_places(check_config(values, source))


def check_config(values: Mapping[str, Any], source: str | Callable[[str], str]) -> Config:
    """A `Config`, or a `UsageError` that names each wrong setting, its nearest right name and its `source`."""
    values = cast(dict[str, Any], _with_tuples(values))
    rename(values)
    algorithm = values.get("algorithm", DEFAULT_ALGORITHM)
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        origin = source if isinstance(source, str) else source("algorithm")
        raise UsageError(f"There is no algorithm {algorithm!r} ({origin}).{suggestion(str(algorithm), ALGORITHMS)}")
    try:
        return _config_class(algorithm).model_validate(values)
    except ValidationError as errors:
        told = [_sentence(error, source, algorithm) for error in errors.errors()]
        raise UsageError("\n".join(told)) from None


def rename(values: dict[str, Any]) -> list[str]:
    """Move settings that stand under a name of an earlier version to the one they have now; returns the old names.

    Raises:
        UsageError: one stands under both.
    """
    moved = []
    for old, new in RENAMED.items():
        (section, name), (other, name_now) = old.split("."), new.split(".")
        inner = values.get(section)
        if not isinstance(inner, Mapping) or name not in inner:
            continue
        now = values.get(other, {})
        if not isinstance(now, Mapping) or name_now in now:
            raise UsageError(f"{old} is called {new} now, and both are given; give it once.")
        values[other] = {**now, name_now: inner[name]}
        values[section] = {key: value for key, value in inner.items() if key != name}
        if not values[section]:
            del values[section]
        moved.append(old)
    return moved


def _from_values(values: dict[str, Any]) -> Config:
    return _config_class(values["algorithm"]).model_validate(values)


@cache
def _config_class(algorithm: str) -> type[Config]:
    """`Config` with the section of an algorithm; those of the others are no settings of such a run."""
    settings: Any = find_algorithm(algorithm).Settings
    fields: dict[str, Any] = {section_of(algorithm): (settings, settings())}
    return cast(type[Config], cast(Any, create_model)("Config", __base__=Config, **fields))


def find_recipe(recipe: str | Path) -> Path:
    """The YAML file of a named recipe, or the file itself."""
    if str(recipe) in recipe_names():
        return RECIPES / f"{recipe}.yaml"
    path = Path(recipe)
    if os.path.isdir(path):
        raise UsageError(
            f"{path} is a run folder; the recipe it was made by is {path / 'config.yaml'}."
            if (path / "config.yaml").is_file()
            else f"{path} is a folder, and a recipe is a YAML file; name the file."
        )
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f'There is no recipe "{recipe}" (a file\'s name ends in .yaml).{suggestion(str(recipe), recipe_names())}'
        )
    if not os.path.isfile(path):
        raise UsageError(f"There is no recipe file {path}.")
    return path


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def place(values: dict[str, Any], names: Sequence[str], value: Any) -> None:
    """Set `values[a][b]...`, making the sections on the way."""
    for name in names[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f'"{name}" is a single value, not a section: {".".join(names)} cannot be set.')
        values = inner
    values[names[-1]] = value


def setting_names(algorithm: str = DEFAULT_ALGORITHM) -> list[str]:
    """Every setting of a training by this algorithm, by its dotted name."""

    def walk(section: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from walk(inner, f"{prefix}{name}.")
            else:
                yield prefix + name

    return list(walk(_config_class(algorithm), ""))


def _with_tuples(value: Any) -> Any:
    """YAML's lists as the tuples that settings are: types are taken strictly, so that `yes` is no number of steps."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list | tuple) else value


# What pydantic says of a type in words of Python.
_WORDS = {
    "tuple_type": "Input should be a list",
    "model_type": "This is a section, with settings of its own",
    "bool_type": "Input should be true or false",
    "int_type": "Input should be a whole number",
    "float_type": "Input should be a number",
    "string_type": "Input should be text; quote it if it looks like a number",
}


def _sentence(error: Any, source: str | Callable[[str], str], algorithm: str) -> str:
    name = ".".join(str(part) for part in error["loc"])
    origin = source if isinstance(source, str) else source(name)
    if error["type"] == "extra_forbidden":
        owner = next((other for other in ALGORITHMS if section_of(other) == name), None)
        if owner is not None:
            return f"{name}: settings of the algorithm {owner}, and this run learns by {algorithm} ({origin})."
        return f'There is no setting "{name}" ({origin}).{suggestion(name, setting_names(algorithm))}'
    message = _WORDS.get(error["type"], error["msg"].removeprefix("Value error, "))
    if isinstance(error["input"], Mapping):  # settings that do not go together
        return f"{name}: {message} ({origin})." if name else f"{message} ({origin})."
    got = repr(error["input"])
    got = got if len(got) <= 80 else f"{got[:80]}..."
    return f"{name}: {message} (got {got}, {origin})." if name else f"{message} ({origin})."
