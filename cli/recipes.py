"""`dgpo recipes`: the named settings that `dgpo train` starts from."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, group
from cli.screen import print_json, print_table

app = group("Settings to start training from.")


@app.command("ls")
def list_all(as_json: AsJson = False) -> None:
    """List the recipes."""
    from dgpo.config import find_recipe, load_config, recipe_names

    rows = []
    for name in recipe_names():
        config = load_config(name)
        rows.append((name, config.model, ", ".join(config.rewards) or "-", config.steps, _title(find_recipe(name))))
    head = ("recipe", "model", "rewards", "steps", "what")
    if as_json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    else:
        print_table(head, rows, expendable=("model", "steps"))


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME|FILE")]) -> None:
    """Print a recipe as it is written."""
    from dgpo.config import find_recipe, load_config

    load_config(name)
    print(find_recipe(name).read_text(encoding="utf-8"), end="")


def _title(path: Path) -> str:
    """The first line of the header."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
