"""The small picture of one object from which its colour is told.

Source: `ImageCrops` of evaluation/evaluate_images.py, github.com/djghosh13/geneval at
af4902f24d3ca90ebbb446dd9891a59e0f82725f, with its default options.
"""

from typing import TYPE_CHECKING

from rewards.errors import ScoringError

if TYPE_CHECKING:
    from PIL.Image import Image

    from rewards.geneval.detections import Found

GREY = (153, 153, 153)  # "#999"


def crop_object(image: "Image", found: "Found") -> "Image":
    """The part of `image` inside the object's box, RGB, with everything outside the object's mask painted `GREY`.

    Without a mask the box is cut as it is. Sides of the box are rounded to whole pixels, halves to the even one.

    Raises:
        ScoringError: the box holds no pixel.
    """
    from PIL import Image

    from rewards.images import rgb

    image = rgb(image)
    if found.mask is not None:
        image = Image.composite(image, Image.new("RGB", image.size, GREY), Image.fromarray(found.mask))
    left, top, right, bottom = map(round, found.box)
    if right <= left or bottom <= top:
        raise ScoringError(f"the detector's box {found.box} holds no pixel, so its object has no colour")
    return image.crop((left, top, right, bottom))
