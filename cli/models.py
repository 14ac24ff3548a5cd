"""`dgpo models`: the families that can be trained, and what was proved of each."""

from typing import Annotated

import typer

from cli.options import AsJson, group
from cli.screen import print_json, print_table

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
