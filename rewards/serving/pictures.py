"""Turn bytes from strangers into images: three formats, told by content, and no pixel decoded before it is counted."""

from collections.abc import Sequence

from PIL import Image, PngImagePlugin

from rewards.images import OtherFormat, TooLarge, Unreadable, as_shown, decoding, open_image
from rewards.serving.limits import Limits, Refusal

FORMATS = ("PNG", "JPEG", "WebP")
TEXT_BYTES = 2**20


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


def decode_pictures(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The images unpacked, as a viewer shows them; Refusal 422 for one that is damaged."""
    return [_decode(number, picture) for number, picture in enumerate(pictures)]


def count_bytes(pictures: Sequence[Image.Image]) -> int:
    """What the images take in memory once they are decoded."""
    return sum(4 * picture.width * picture.height for picture in pictures)


def _open(number: int, part: bytes | bytearray, limits: Limits) -> Image.Image:
    try:
        picture = open_image(part, FORMATS, limits.image_pixels, limits.image_side)
        with decoding():
            frames = getattr(picture, "n_frames", 1)
    except Unreadable as error:
        status = 415 if isinstance(error, OtherFormat) else 413 if isinstance(error, TooLarge) else 422
        raise Refusal(status, f"Image {number} {error.what}.") from None
    if frames > 1:
        raise Refusal(422, f"Image {number} is a film of {frames} frames; send one picture.")
    return picture


def _decode(number: int, picture: Image.Image) -> Image.Image:
    try:
        with decoding():
            picture.load()
        return as_shown(picture)
    except Unreadable as error:
        raise Refusal(422, f"Image {number} {error.what}.") from None
