"""Turn bytes from strangers into images: three formats, told by content, and no pixel decoded before it is counted."""

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image, PngImagePlugin

from rewards.serving.limits import Limits, Refusal

FORMATS = ("PNG", "JPEG", "WEBP")
TEXT_BYTES = 2**20
# What Pillow's readers raise on bytes that are no image, or only half of one.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def restrain_pillow() -> None:
    """Lower what Pillow unpacks of the text inside a PNG from 64 MB to 1 MB; for the whole process."""
    PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES


def open_pictures(parts: Sequence[bytes | bytearray], limits: Limits) -> list[Image.Image]:
    """The images, opened and measured by their headers, not decoded.

    Raises:
        Refusal: 413 too many pixels, 415 of another format, 422 not readable; it names the image by its number.
    """
    pictures = [_open(number, part, limits) for number, part in enumerate(parts)]
    pixels = sum(picture.width * picture.height for picture in pictures)
    if pixels > limits.request_pixels:
        raise Refusal(413, f"The images have {pixels} pixels, and at most {limits.request_pixels} are taken at once.")
    return pictures


def decode_pictures(pictures: Sequence[Image.Image]) -> None:
    """Decode images in place; Refusal 422 for one that is damaged."""
    for number, picture in enumerate(pictures):
        try:
            picture.load()
        except _DAMAGE as error:
            raise Refusal(422, f"Image {number} cannot be decoded: {error}.") from None


def count_bytes(pictures: Sequence[Image.Image]) -> int:
    """What the images take in memory once they are decoded."""
    return sum(4 * picture.width * picture.height for picture in pictures)


def _open(number: int, part: bytes | bytearray, limits: Limits) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(part), formats=FORMATS)
        frames = getattr(picture, "n_frames", 1)
    except Image.UnidentifiedImageError:
        raise Refusal(415, f"Image {number} is no PNG, JPEG or WebP.") from None
    except _DAMAGE as error:
        raise Refusal(422, f"Image {number} cannot be read: {error}.") from None
    width, height = picture.size
    if max(width, height) > limits.image_side or width * height > limits.image_pixels:
        raise Refusal(
            413,
            f"Image {number} is {width} x {height}; at most {limits.image_pixels} pixels, and {limits.image_side} a "
            "side, are taken.",
        )
    if frames > 1:
        raise Refusal(422, f"Image {number} is a film of {frames} frames; send one picture.")
    return picture
