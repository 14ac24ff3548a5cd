"""Images from elsewhere: bytes or a file in; out comes what a viewer shows, or a reason that is the same every time.

Whoever made the file is a stranger. Eight formats are read, told by content (no PostScript, which would start another
program); an image is measured by its header before a pixel is unpacked; only regular files are opened; and whatever
Pillow's readers raise on damage means that this one image cannot be judged, and nothing else.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from rewards.errors import ScoringError
from rewards.files import read_regular, sha256_of

FORMATS = ("PNG", "JPEG", "WebP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
IMAGE_BYTES = 2**26
IMAGE_PIXELS = 2**24
IMAGE_SIDE = 2**14
# What Pillow's readers raise on bytes that are no image, or only half of one.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    AssertionError, BufferError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
# A colour profile may have some megabytes; Pillow's own bound of one takes such a file for damaged.
PngImagePlugin.MAX_TEXT_CHUNK = 2**23
# Its remarks on strange files are not for the screen: pixels are counted here, and what fails has its reason.
warnings.filterwarnings("ignore", module=r"PIL\.")
_SHOWN = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa")
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")


class Unreadable(ScoringError):
    """An image that cannot be judged; `what` goes on from "the image", as in "is damaged (...)"."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"the image {self.what}"


class OtherFormat(Unreadable):
    """No image, or one of a format that is not read."""


class TooLarge(Unreadable):
    """More pixels than are unpacked."""


@dataclass(frozen=True)
class ImageFile:
    """What a file holds: its SHA-256 (empty where it was not read), and the image or the `problem` with it."""

    sha256: str
    image: Image.Image | None
    problem: str = ""
    missing: bool = False


def read_image(path: Path) -> ImageFile:
    """The image in a file (of an animation the first); there is always an answer."""
    return image_from(lambda: read_regular(path, IMAGE_BYTES), str(path))


def image_from(read: Callable[[], bytes], name: str) -> ImageFile:
    """The image in the bytes that `read` gives, or its OSError as the reason why there is none."""
    try:
        data = read()
    except (FileNotFoundError, NotADirectoryError):
        return ImageFile("", None, f"there is no image {name}", missing=True)
    except OSError as error:
        return ImageFile("", None, f"the image file cannot be read ({error.strerror or error})")
    digest = sha256_of(data)
    try:
        return ImageFile(digest, decode(data))
    except Unreadable as error:
        return ImageFile(digest, None, str(error))


def decode(data: bytes) -> Image.Image:
    """The image in these bytes, unpacked, as a viewer shows it; Unreadable where there is none."""
    image = open_image(data)
    with decoding():
        if image.format == "PNG":
            image.verify()  # its checksums, at which `load` does not look; it leaves the object unusable
            image = open_image(data)
        image.load()
    return as_shown(image)


def open_image(
    data: bytes | bytearray,
    formats: Sequence[str] = FORMATS,
    pixels: int = IMAGE_PIXELS,
    side: int = IMAGE_SIDE,
) -> Image.Image:
    """An image of one of these formats, measured by its header and not unpacked yet.

    Raises:
        OtherFormat, TooLarge, or another Unreadable.
    """
    known = [name for name in formats if name.upper() in _readable()]
    with decoding():
        try:
            image = Image.open(io.BytesIO(data), formats=known)
        except Image.UnidentifiedImageError:
            raise OtherFormat(f"is no {', '.join(known[:-1])} or {known[-1]}, or damaged from the start") from None
        except Image.DecompressionBombError:
            raise TooLarge(f"is larger than the {pixels} pixels that are taken") from None
    width, height = image.size
    if max(width, height) > side or width * height > pixels:
        raise TooLarge(f"is {width} x {height}; at most {pixels} pixels, and {side} a side, are taken")
    return image


@contextmanager
def decoding() -> Iterator[None]:
    """Whatever a reader raises in this block is Unreadable; the reason holds no addresses, so that equal ones count."""
    try:
        yield
    except DAMAGE as error:
        words = _OBJECT.sub("it", str(error)).strip().rstrip(".")
        raise Unreadable(f"is damaged ({words or type(error).__name__})") from None


def as_shown(image: Image.Image) -> Image.Image:
    """An unpacked image as a viewer shows it: upright by its EXIF orientation, with 8 bits a channel."""
    return eight_bits(_upright(image))


def eight_bits(image: Image.Image) -> Image.Image:
    """The high bytes of 16-bit grey, as Pillow reads 16-bit colours; other images of 8 bits or fewer as they are.

    Raises:
        Unreadable: floating point or 32-bit pixels, of which nobody says how bright white is, or a rare colour space.
    """
    if image.mode in _SHOWN:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("F", "I"):
        kind = "floating point" if image.mode == "F" else "32-bit"
        raise Unreadable(f"has {kind} pixels, of which nobody says how bright white is; save it with 8 or 16 bits")
    raise Unreadable(f"has pixels of the kind {image.mode}, which is not read; save it as RGB")


def rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB; alpha is dropped."""
    return eight_bits(image).convert("RGB")


def image_endings() -> set[str]:
    """Lower-case endings of the files that are read here."""
    formats = {name.upper() for name in FORMATS}
    Image.init()
    return {ending for ending, name in Image.EXTENSION.items() if name in formats}


@cache
def _readable() -> frozenset[str]:
    Image.init()
    return frozenset(Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        return ImageOps.exif_transpose(image) if turned else image
    except DAMAGE:  # viewers show an image whose EXIF is damaged as it lies
        return image
