"""A word drawn here, which whatever reads or looks at pictures can be tried on."""

from typing import TYPE_CHECKING

from rewards.prompt import Prompt

if TYPE_CHECKING:
    from PIL.Image import Image

WORD = "HARBOR"


def ask_for(word: str = WORD) -> Prompt:
    """The prompt that the drawn word fulfils."""
    return Prompt(f'a sign that says "{word}"')


def draw_word(word: str = WORD) -> "Image":
    """Black letters on white, which every engine that works can read."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (256, 96), "white")
    font = ImageFont.load_default(size=44)
    ImageDraw.Draw(image).text((128, 48), word, fill="black", font=font, anchor="mm")
    return image
