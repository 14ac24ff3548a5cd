"""`dgpo models`: the families that can be trained, what was proved of each, and single files made folders of them."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, group
from cli.screen import print_json, print_table, say

app = group("Families of models that can be trained.")


@app.command("ls")
def list_models(as_json: AsJson = False) -> None:
    """All families, by the pipeline class that a folder's model_index.json names; any other can be drawn from."""
    from dgpo.models.families import FAMILIES, family_of

    head = ("pipeline", "models", "drawn by default", "proved")
    rows = []
    for name in FAMILIES:
        family = family_of(name, {"_class_name": name})
        drawn = family.defaults
        how = f"{drawn.sampler}, {drawn.steps} steps, guidance {drawn.guidance:g}"
        rows.append((name, family.summary, how, family.proved))
    if as_json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    else:
        print_table(head, rows, expendable=("proved", "drawn by default"))


@app.command("check")
def check_model(
    folder: Annotated[str, typer.Argument(help="A diffusers folder of such a family.")],
) -> None:
    """Hold a folder against its own pipeline: rollout, autoencoder, gradient, times, LoRA, training. Minutes."""
    from dgpo.models.conformance import main

    code = main([folder])
    if code:
        raise typer.Exit(code)


@app.command("convert")
def convert_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A single .safetensors file, in the original layout.")],
    like: Annotated[
        str,
        typer.Option(
            "--like",
            metavar="FOLDER|OWNER/NAME[@REVISION]",
            help="A model of the same family and size: configs, tokenizers and what the file lacks are taken from it.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="The new folder.")],
) -> None:
    """Make a diffusers folder of a single file, for --model everywhere, and print where it is."""
    from dgpo.models.find import find_model
    from dgpo.models.libraries import hushed_loading
    from dgpo.models.single_file import convert_file

    with hushed_loading():
        made = convert_file(file, find_model(like), output)
    say(f"from {file}: {', '.join(made.from_file)}")
    for part in made.from_like:
        say(f"from {like}: {part}")
    for name in made.left_out:
        say(f"{file} holds {name} too, which diffusers does not read there: it is left out")
    print(output)
