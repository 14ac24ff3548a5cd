"""`dgpo sample`: one image of one prompt."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from cli.model import choose_model, load_choice
from cli.options import (
    BaseOfRun,
    DrawingDtype,
    LoraName,
    ModelName,
    Offloaded,
    Quantized,
    SamplingSets,
    parse_sampling,
)
from cli.screen import say
from cli.threads import share_cores
from dgpo.models.holding import Holding
from rewards.errors import SetupError, UsageError
from rewards.files import check_writable, replace_file
from rewards.prompt import Prompt

SAMPLES = Path("runs/samples")
LARGEST_SEED = 2**64 - 1


def sample(
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What to draw.")],
    model: ModelName = None,
    base: BaseOfRun = None,
    lora: LoraName = None,
    quantize: Quantized = "none",
    offload: Offloaded = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Starting noise; another seed, another image.")
    ] = 0,
    sets: SamplingSets = None,
    dtype: DrawingDtype = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.png", help="Default runs/samples/MODEL_PROMPTID_SEED.png.")
    ] = None,
) -> None:
    """Draw one image, from the noise that `dgpo eval` gives this prompt and seed, and print where it is."""
    from benchmarks.harness.images import Cell

    if not prompt.strip():
        raise UsageError("The prompt is empty; say what to draw with --prompt.")
    if output is not None and output.suffix.lower() != ".png":
        raise UsageError(f"{output}: images are written as PNG; name a file that ends in .png.")
    sampling = parse_sampling(sets)
    check_writable(output or SAMPLES / "image.png")
    share_cores(0)
    choice = choose_model(model, base, lora, Holding(quantize, offload))
    loaded = load_choice(choice, sampling, dtype, recorded=choice.run is not None)
    say(f"precision: {loaded.precision}")
    cell = Cell(Prompt(prompt.strip()), seed)
    path = output or SAMPLES / f"{loaded.name}_{cell.file_name}"
    image = loaded.draw([cell])[0]
    if isinstance(image, str):
        raise SetupError(f"{loaded.name} made no image: {image}. Try another --seed.")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    image.save(data, format="PNG")
    replace_file(path, data.getvalue(), named=output is not None)
    print(path)
