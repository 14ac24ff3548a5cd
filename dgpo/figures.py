"""Pictures of a run: the grid of samples with fixed noise, and the curve."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from rewards.files import replace_file

SMALLEST_SIDE = 96
GAP = 6


def draw_grid(images: Sequence[Image.Image | str], captions: Sequence[str], columns: int, path: Path) -> None:
    """One row a caption, `columns` images each; small images are enlarged by a whole factor, so pixels stay sharp.

    Where there is no image, a cross stands for it.
    """
    size = next((image.size for image in images if not isinstance(image, str)), (SMALLEST_SIDE, SMALLEST_SIDE))
    factor = max(1, -(-SMALLEST_SIDE // min(size)))
    width, height = (side * factor for side in size)
    line = 18
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), GAP + len(captions) * (height + line + GAP)), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        left, top = GAP + column * (width + GAP), GAP + row * (height + line + GAP)
        if column == 0:
            canvas.text((left, top), captions[row], fill="black", font=font)
        if isinstance(image, str):
            right, bottom = left + width, top + line + height
            canvas.line((left, top + line, right, bottom), fill="red")
            canvas.line((left, bottom, right, top + line), fill="red")
        else:
            sheet.paste(image.resize((width, height), Image.Resampling.NEAREST), (left, top + line))
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    sheet.save(data, format="PNG")
    replace_file(path, data.getvalue())


def draw_curve(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training reward with its spread within groups, and held-out means with their intervals, against iterations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    steps = [line for line in lines if line.get("reward") is not None]
    if steps:
        x, reward = [line["step"] for line in steps], [line["reward"] for line in steps]
        axes.plot(x, reward, color="0.6", linewidth=1, label="training reward")
        low, high = zip(
            *((line["reward"] - line["spread"], line["reward"] + line["spread"]) for line in steps), strict=True
        )
        axes.fill_between(x, low, high, color="0.9", label="spread within groups")
    prompts = {key: value.get("prompts") for line in lines for key, value in line.get("evaluation", {}).items()}
    for key, points in held_out_points(lines).items():
        x, mean, below, above = zip(*points, strict=True)
        count = f", {prompts[key]} prompts" if prompts[key] else ""
        label = f"held out: {key} (95 % interval{count})"
        axes.errorbar(x, mean, yerr=[below, above], marker="o", capsize=3, label=label)
    axes.set_xlabel("iteration")
    axes.set_ylabel("reward")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, dpi=120, format="png")
    pyplot.close(figure)
    replace_file(path, data.getvalue())


def held_out_points(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float, float, float]]]:
    """For each reward's key its evaluations: iteration, mean, and how far the interval reaches below and above it.

    An evaluation without any score is no point, and one without an interval (a single prompt) has no bar.
    """
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    for line in lines:
        for key, value in line.get("evaluation", {}).items():
            mean, low, high = (value[name] for name in ("mean", "ci_low", "ci_high"))
            if mean is not None:
                below, above = (0.0, 0.0) if low is None or high is None else (mean - low, high - mean)
                found.setdefault(key, []).append((line["step"], mean, below, above))
    return found
