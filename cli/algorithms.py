"""`dgpo algorithms`: how a model can learn, what each way needs and costs, and its settings."""

import json
from typing import Annotated, Any

import typer

from cli.options import AsJson, group
from cli.screen import print_json, print_table

app = group("How a model can learn from scored images.")


@app.command("ls")
def list_algorithms(as_json: AsJson = False) -> None:
    """All algorithms, each with its paper."""
    from dgpo.algorithms.algorithm import ALGORITHMS, find_algorithm

    head, rows = ("algorithm", "what it is"), [(name, find_algorithm(name).summary) for name in ALGORITHMS]
    if as_json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    else:
        print_table(head, rows)


@app.command("show")
def show_algorithm(name: Annotated[str, typer.Argument(help="One of `dgpo algorithms ls`.")]) -> None:
    """Its settings with their defaults, what it keeps beside the trained weights, and what an image costs."""
    from dgpo.algorithms.algorithm import find_algorithm, section_of
    from dgpo.config import check_config
    from dgpo.models.model import Model
    from dgpo.plan import describe_passes, planned_passes

    kind = find_algorithm(name)
    settings = kind.Settings()
    print(f"{name}: {kind.summary}\n")
    rows = [
        (f"{section_of(name)}.{field}", _told(getattr(settings, field)), " ".join((about.description or "").split()))
        for field, about in kind.Settings.model_fields.items()
    ]
    print_table(("setting", "default", "meaning"), rows)
    needs = kind.needs(settings)
    passes = planned_passes(check_config({"algorithm": name}, "the defaults"), Model.passes)
    print(f"\nkeeps beside the trained weights: {', '.join(sorted(needs.snapshots)) or 'nothing'}")
    print(f"draws with the weights: {needs.draws}")
    print(f"sampler: {needs.sampler}{', with its trajectory' if needs.trajectory else ''}")
    print(f"with the defaults of every setting: {describe_passes(passes)}")


def _told(value: Any) -> str:
    """A default as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value)
