"""Sample grids: the same prompts from the same noise, every so often, drawn by all ranks."""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from dgpo.sample import draw_images
from dgpo.sections import Every, Sampling
from dgpo.supervision.hooks import Hook, Moment, due, end_for_lack_of_look
from rewards.errors import DgpoError
from rewards.files import replace_file
from rewards.prompt import Prompt

if TYPE_CHECKING:
    from dgpo.trainer import Trainer

SEEDS = 4
# Images drawn at once by one rank. Blocks are the same whatever the number of ranks, and so are the images.
BLOCK = 16
SMALLEST_SIDE = 96
GAP = 6


class Samples(Hook):
    """Draws `samples/step-NNNNNN.png` where it is due and not there."""

    def __init__(self, settings: Every, prompts: Sequence[Prompt], sampling: Sampling) -> None:
        self.settings, self.prompts, self.sampling = settings, prompts, sampling

    def begin(self, training: "Trainer", moment: Moment) -> None:
        """At the start, or again where an earlier part ended before it was drawn."""
        self.ended(training, moment)

    def ended(self, training: "Trainer", moment: Moment) -> None:
        path = training.run.folder / "samples" / f"step-{moment.step:06d}.png"
        wanted = (moment.last or due(moment.step, self.settings.every)) and not path.exists()
        if not training.ranks.gather([wanted])[0]:
            return
        problem = None
        try:
            self._draw(training, path)
        except DgpoError as error:
            problem = str(error)
        end_for_lack_of_look(training, moment, problem)

    def _draw(self, training: "Trainer", path: Path) -> None:
        cells = [(prompt, seed) for prompt in self.prompts for seed in range(SEEDS)]
        blocks = [cells[start : start + BLOCK] for start in range(0, len(cells), BLOCK)]
        policy, drawn = training.policy, []
        for number in training.ranks.share(len(blocks)):
            drawn.append((number, draw_images(policy, blocks[number], self.sampling, who=policy.published)))
        images = [image for _, block in sorted(training.ranks.gather(drawn), key=lambda one: one[0]) for image in block]
        if training.ranks.main:
            captions = [prompt.text for prompt in self.prompts]
            training.state.writer.hand(partial(draw_grid, images, captions, SEEDS, path))


def draw_grid(images: Sequence[Image.Image | str], captions: Sequence[str], columns: int, path: Path) -> None:
    """One row per caption, `columns` images each; small images are enlarged by a whole factor, so pixels stay sharp.

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
