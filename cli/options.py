"""Options that several commands share, each described once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dgpo.precision import Quantize, Wanted
from rewards.errors import UsageError
from rewards.reward import DEADLINE_S

DEFAULT_MODEL = "tiny"

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="tiny (embedded, the default), a diffusers folder, OWNER/NAME[@REVISION] of the hub, or RUN_DIR[@STEP].",
    ),
]
LoraName = Annotated[
    str | None,
    typer.Option(
        "--lora",
        metavar="LORA",
        help="A LoRA on the model: a safetensors file, its folder, or OWNER/NAME[@REVISION][/FILE] of the hub.",
    ),
]
Quantized = Annotated[
    Quantize,
    typer.Option(
        "--quantize", help="Hold the base model's network in 8 bits, or on a GPU in 4: less memory, other numbers."
    ),
]
Offloaded = Annotated[
    bool,
    typer.Option("--offload", help="A base model's network waits in host memory while text encoders are on the GPU."),
]
BaseOfRun = Annotated[
    str | None,
    typer.Option("--base", metavar="DIR", help="Where the base model of the run is now, if it has moved."),
]
_SPEC = "NAME, NAME@VERSION, NAME[option=value], path/to/file.py:Class or http://host:port/NAME (`dgpo serve`)"
JudgeTexts = Annotated[
    list[str] | None,
    typer.Option("--reward", metavar="SPEC", help=f"{_SPEC}; repeatable. See `dgpo rewards ls`."),
]
RewardTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        metavar="SPEC",
        help=f"{_SPEC}; =WEIGHT behind it in a training mix; repeatable. See `dgpo rewards ls`.",
    ),
]
RewardSets = Annotated[
    list[str] | None,
    typer.Option("--reward-set", metavar="NAME.OPTION=VALUE", help="An option of a given reward; repeatable."),
]
WeightFolders = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="NAME=DIR", help="A local folder with the weights of a reward; repeatable."),
]
SamplingSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="sampling.NAME=VALUE", help="Draw with another sampler setting than the model's; repeatable."
    ),
]
DrawingDtype = Annotated[
    Wanted,
    typer.Option(
        "--dtype",
        help="Precision to draw in. auto: what a run was trained in; for a base model bf16 where the machine computes "
        "in it, else fp32.",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Folder of published prompt files; otherwise DGPO_DATA_DIR, else fetched once."
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Scoring processes; 0 scores in this one.")]
RewardSeconds = Annotated[
    float,
    typer.Option(
        "--reward-seconds",
        min=1,
        help="How long scoring a batch may take (the first an hour more); then its images fail. Needs workers.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def check_deadline(reward_seconds: float, workers: int) -> None:
    """UsageError for a deadline that nothing would keep."""
    if reward_seconds != DEADLINE_S and workers == 0:
        raise UsageError(
            "--reward-seconds ends a scoring process that takes longer, and with --workers 0 there is none; give "
            "--workers 1 or more."
        )


def group(help: str) -> typer.Typer:
    """An empty group of commands, such as `dgpo rewards`, that looks like the rest."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


def split_setting(text: str, option: str, example: str) -> tuple[str, str]:
    """NAME=VALUE as a pair; UsageError with an example for anything else."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise UsageError(f'{option} takes {example}; got "{text}".')
    return name.strip(), value.strip()


def parse_sampling(sets: list[str] | None) -> dict[str, Any]:
    """The sampler settings given by --set, by name; their values are checked where they are used."""
    from dgpo.settings import parse_setting

    values = {}
    for text in sets or ():
        name, value = parse_setting(text, "sampling.steps=20")
        section, dot, field = name.partition(".")
        if section != "sampling" or not (dot and field):
            raise UsageError(f'Only settings of the sampler can be given here, as sampling.NAME=VALUE; got "{text}".')
        values[field] = value
    return values
