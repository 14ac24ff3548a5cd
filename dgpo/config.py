"""What a run is told: every setting, what it means, and which values make sense.

YAML in, YAML out (`config.yaml` in the run folder). An unknown key or an impossible value is an error with a sentence.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dgpo.guards import Guard, parse_guard
from dgpo.places import anchor_places
from dgpo.precision import AUTO, Precision, Wanted
from dgpo.settings import parse_setting, read_settings
from rewards.errors import UsageError, suggestion
from rewards.reward import DEADLINE_S
from rewards.spec import RewardSpec, anchor, parse_rewards

RECIPES = Path(__file__).parent / "recipes"
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
# More than any machine does in a lifetime; beyond, libraries stop counting.
LARGEST = 1_000_000_000
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Training(Section):
    method: Literal["lora", "full"] = "lora"
    """Train low-rank adapters, or all of the transformer's weights."""
    rank: Annotated[int, Field(ge=1, le=4096)] = 64
    """Rank of the adapters; no layer of a transformer has use for more than its width."""
    alpha: Count = 128
    """Scale of the adapters: their product is multiplied by alpha / rank."""
    modules: tuple[str, ...] = ()
    """Module names that get adapters; empty means the eight joint-attention projections."""
    dtype: Wanted = AUTO
    """Precision of the forward passes; trained weights and optimiser stay in fp32. `auto` is bf16 where the machine
    computes in it itself, fp32 elsewhere; fp16 is for drawing only."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, one more forward."""


class Sampling(Section):
    sampler: Literal["euler", "dpm++"] = "dpm++"
    """Deterministic ODE solver: Euler, or DPM-Solver++ 2M on flow sigmas."""
    steps: Count = 10
    """Steps from noise to image."""
    guidance: Annotated[float, Field(ge=1)] = 4.5
    """Classifier-free guidance; 1 is off and saves half of the forwards."""
    height: Count | None = None
    """Pixels; none means the model's own size."""
    width: Count | None = None
    """Pixels; none means the model's own size."""
    text_length: Whole = 128
    """T5 tokens a prompt; ignored by a model without T5."""


class Rollout(Section):
    old_after: Whole | None = None
    """Draw with the old policy from this iteration on; none means always the current one."""
    micro_batch: Count = 16
    """Images drawn and decoded at once on a rank."""


class Times(Section):
    count: Count = 4
    """Training times an iteration, drawn without replacement from the rollout's own table."""
    min_sigma: Decay = 0.6
    """The timestep clip: only times of at least this noise level are trained on."""
    one_update: bool = True
    """One optimiser step with the mean gradient of all times; otherwise one step a time, with that time's gradient."""


class Objective(Section):
    beta: Positive = 100.0
    """How sharply a group saturates (beta / G multiplies the margin)."""
    kl: NonNegative = 0.02
    """Weight of mean((v - v_reference)^2)."""
    clip: Positive | None = 0.01
    """PPO-style clip on exp(old error - error); none is off and saves the old policy's forwards."""
    reference: Literal["base", "old"] = "base"
    """The model that errors are compared with: the untrained one, or the old policy (`ema-ref`)."""
    reference_guidance: Annotated[float, Field(ge=1)] = 1.0
    """Guidance of the reference's velocities."""


class Advantage(Section):
    std: Literal["group", "batch"] = "group"
    """Divide by the deviation of each group, or of the whole batch."""
    epsilon: NonNegative = 1e-4
    """Added to the deviation."""
    clamp: Positive | None = 5.0
    """Advantages are limited to plus or minus this."""
    per_reward: bool = False
    """Standardise each reward of a mix within its group before the weighted sum; otherwise only the sum is."""


class Optimizer(Section):
    learning_rate: Positive = 3e-4
    """AdamW step size."""
    warm_up: Whole = 0
    """Optimiser steps over which the step size rises from zero."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's averaging of gradients and of their squares."""
    weight_decay: NonNegative = 1e-4
    """AdamW's decoupled decay."""
    epsilon: Positive = 1e-8
    """Added to AdamW's denominator."""
    max_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    micro_batch: Count = 16
    """Images a backward pass on a rank."""


class Averages(Section):
    old_decay: Decay = 0.3
    """Largest decay of the old policy, an average of the trained weights."""
    old_growth: NonNegative = 0.001
    """The old policy's decay is this times the optimiser step, up to `old_decay`."""
    evaluation_decay: Decay = 0.9
    """Largest decay of the average that is evaluated and published; 0 evaluates the trained weights themselves."""
    evaluation_every: Count = 8
    """Iterations between updates of that average."""


class Evaluation(Section):
    every: Whole = 0
    """Iterations between evaluations on held-out prompts; 0 is never."""
    prompts: Count = 32
    """How many of the suite's prompts."""
    seeds: Count = 1
    """Images a prompt."""
    suite: str | None = None
    """Suite that is evaluated during training; none means no evaluation unless the model brings its own."""
    steps: Count | None = None
    """Sampler steps in evaluation; none means as in the rollout."""
    guidance: Annotated[float, Field(ge=1)] | None = None
    """Guidance in evaluation; none means as in the rollout."""
    rewards: tuple[str, ...] = ()
    """Rewards that evaluations measure besides those trained on, written as for `--reward`."""
    stop_when: tuple[str, ...] = ()
    """Guards, as `--stop-when` takes them: the run ends when one of them is so after an evaluation."""

    @field_validator("rewards")
    @classmethod
    def _anchored(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(anchor(text) for text in texts)

    @property
    def guards(self) -> list[Guard]:
        return [parse_guard(text) for text in self.stop_when]

    @property
    def on(self) -> bool:
        """Whether there is anything to evaluate, now and then."""
        return self.suite is not None and self.every > 0


class Watch(Section):
    canaries: Whole = 4
    """Pictures drawn by us that every reward scores at the start, alone and in batches, and again later; 0 is none."""
    canary_every: Whole = 25
    """Iterations between two looks at the canaries; there is one before every checkpoint besides."""
    drift: Literal["stop", "warn"] = "stop"
    """What follows when a canary's score is no longer what it was at the start of the run."""
    tolerance: Positive | None = None
    """By how much it may differ, relative to max(1, |score|); none means as each reward's card and precision say."""
    constant: Literal["stop", "warn", "off"] = "stop"
    """What follows when a reward gives every image the same score; one at its best possible value only warns."""
    constant_after: Count = 10
    """Iterations in a row after which that is so; it is warned of after half as many."""
    reward_seconds: Positive = DEADLINE_S
    """How long scoring a batch may take (a reward's first one an hour more, for its weights); then its images fail, and
    the scoring process is replaced. With workers=0 nothing is, as nothing can end what hangs in the training itself."""


class Every(Section):
    every: Whole = 50
    """Iterations between two of them; 0 is only at the end."""


class Config(Section):
    model: str = "tiny"
    """`tiny`, a local diffusers folder, or a hub id of the SD3 family."""
    algorithm: Literal["dgpo"] = "dgpo"
    """The learning algorithm."""
    rewards: tuple[str, ...] = ()
    """Reward specs, as `--reward` takes them."""
    reward_set: tuple[str, ...] = ()
    """Reward options, as `--reward-set` takes them."""
    weights: tuple[str, ...] = ()
    """Folders of reward weights, as `--weights` takes them."""
    prompts: str | None = None
    """Prompt file or suite to train on; none means the model's own training prompts."""
    steps: Count = 200
    """Iterations: one rollout with its updates each."""
    seed: Seed = 0
    """All randomness follows from it; any number of 64 bits."""
    groups: Count = 8
    """Prompts an iteration (K)."""
    group_size: Count = 16
    """Images a prompt (G)."""
    max_failed: Whole = 0
    """Failed scores allowed in an iteration; one more stops the run, resumable."""
    workers: Whole = 1
    """Scoring processes; 0 scores in the training process."""
    training: Training = Training()
    sampling: Sampling = Sampling()
    rollout: Rollout = Rollout()
    times: Times = Times()
    objective: Objective = Objective()
    advantage: Advantage = Advantage()
    optimizer: Optimizer = Optimizer()
    averages: Averages = Averages()
    evaluation: Evaluation = Evaluation()
    watch: Watch = Watch()
    checkpoint: Every = Every(every=50)
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
    def reward_specs(self) -> list[RewardSpec]:
        """What is trained on."""
        return self.evaluation_specs[: len(parse_rewards(self.rewards))]

    @property
    def evaluation_specs(self) -> list[RewardSpec]:
        """What evaluations measure: the rewards trained on, then `evaluation.rewards`; settings are for all of them."""
        return parse_rewards((*self.rewards, *self.evaluation.rewards), self.reward_set, self.weights)

    def in_precision(self, precision: Precision) -> "Config":
        """The same with its precision settled: the run, and whoever repeats it, keeps it on any machine."""
        return self.model_copy(update={"training": self.training.model_copy(update={"dtype": precision})})

    @property
    def images(self) -> int:
        """Images an iteration, over all ranks."""
        return self.groups * self.group_size


def load_config(recipe: str | Path, overrides: Mapping[str, Any] | None = None, sets: Sequence[str] = ()) -> Config:
    """The config of a recipe (a name or a YAML file), changed by `overrides` and by `--set a.b=value` texts.

    Raises:
        UsageError: names each wrong setting, and where it was given.
    """
    path = find_recipe(recipe)
    values, lines = read_settings(path)
    given = {name: (value, "on the command line") for name, value in (overrides or {}).items()}
    for text in sets:
        name, value = parse_setting(text)
        given[name] = (value, f"by --set {text}")
    for name, (value, _) in given.items():
        place(values, name.split("."), value)

    def source(name: str) -> str:
        """Who gave a setting, or the section or list it stands in."""
        while name:
            if name in given:
                return given[name][1]
            if name in lines:
                return f"{path}, line {lines[name]}"
            name = name.rpartition(".")[0]
        return str(path)

    return anchor_places(check_config(values, source))


def check_config(values: Mapping[str, Any], source: str | Callable[[str], str]) -> Config:
    """A `Config`, or a `UsageError` that names each wrong setting, its nearest right name and its `source`."""
    try:
        return Config.model_validate(_with_tuples(values))
    except ValidationError as errors:
        told = [_sentence(error, source) for error in errors.errors()]
        raise UsageError("\n".join(told)) from None


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


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every setting by its dotted name."""
    names = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += setting_names(inner, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


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


def _sentence(error: Any, source: str | Callable[[str], str]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    origin = source if isinstance(source, str) else source(name)
    if error["type"] == "extra_forbidden":
        return f'There is no setting "{name}" ({origin}).{suggestion(name, setting_names())}'
    message = _WORDS.get(error["type"], error["msg"].removeprefix("Value error, "))
    got = repr(error["input"])
    got = got if len(got) <= 80 else f"{got[:80]}..."
    return f"{name}: {message} (got {got}, {origin})." if name else f"{message} ({origin})."
