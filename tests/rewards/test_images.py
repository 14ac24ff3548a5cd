"""Images by strangers: what a viewer shows, or one reason; never the end of whoever reads them, and never a wait."""

import io
import os
import pickle
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from rewards.images import (
    FORMATS,
    IMAGE_BYTES,
    IMAGE_SIDE,
    OtherFormat,
    TooLarge,
    Unreadable,
    as_shown,
    decode,
    image_endings,
    open_image,
    read_image,
    rgb,
)

RAMP = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
ENDINGS = {"PNG": "png", "JPEG": "jpg", "WebP": "webp", "AVIF": "avif", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}


def bytes_of(image, kind="PNG", **rest):
    data = io.BytesIO()
    image.save(data, kind, **rest)
    return data.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels=b"", *, more=b""):
    """A PNG whose header says so, whatever its pixels are."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_under_any_name(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(bytes_of(RAMP, kind))
    found = read_image(tmp_path / "a.png")
    assert found.image is not None, found.problem
    assert np.abs(np.asarray(rgb(found.image)).astype(int) - np.asarray(RAMP)).max() < 12
    assert f".{ENDINGS.get(kind, 'ppm')}" in image_endings()


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "RGB")]
)
def test_ordinary_images_are_what_pillow_reads(kind, mode):
    data = bytes_of(RAMP.convert(mode), kind)
    with Image.open(io.BytesIO(data)) as plain:
        assert decode(data).mode == plain.mode
        assert decode(data).tobytes() == plain.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_looks_like_grey_of_8(kind):
    grey = np.asarray(RAMP.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(decode(bytes_of(deep, kind))), grey)


@pytest.mark.parametrize(("values", "kind"), [(np.float32, "floating point"), (np.int32, "32-bit")])
def test_pixels_without_a_known_white_are_refused(values, kind):
    with pytest.raises(Unreadable, match=f"the image has {kind} pixels"):
        decode(bytes_of(Image.fromarray(np.ones((3, 4), values)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_a_turned_photograph_is_seen_upright(kind, orientation):
    """Whoever stores a picture turned by the inverse says so by the tag, and sees it as it was."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    upright = Image.new("RGB", (16, 8), "black")
    upright.paste((255, 255, 255), (0, 0, 8, 4))
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    seen = decode(bytes_of(stored, kind, exif=exif))
    assert seen.size == upright.size
    assert np.abs(np.asarray(rgb(seen)).astype(int) - np.asarray(upright)).max() < 40
    assert as_shown(seen).tobytes() == seen.tobytes()


def test_damaged_exif_spoils_no_picture():
    for exif in (b"Exif\0\0MM\0*\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        assert decode(bytes_of(RAMP, "JPEG", exif=exif)).size == RAMP.size


def test_a_large_colour_profile_is_no_damage():
    profile = random.Random(0).randbytes(2**21)
    assert decode(bytes_of(RAMP, "PNG", icc_profile=profile)).size == RAMP.size
    assert PngImagePlugin.MAX_TEXT_CHUNK == 2**23


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (2**14 + 1, 1), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_not_unpacked(width, height):
    with pytest.raises(TooLarge, match="the image is "):
        decode(png(width, height, bytes(1000)))


def test_the_bounds_are_exact():
    data = bytes_of(RAMP)
    assert open_image(data, pixels=1200, side=40).size == (40, 30)
    bounds: Any
    for bounds in ({"pixels": 1199}, {"side": 39}):
        with pytest.raises(TooLarge, match=r"the image is 40 x 30; at most \d+ pixels, and \d+ a side, are taken"):
            open_image(data, **bounds)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_postscript_is_never_run(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {ran}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    found = read_image(tmp_path / "a.png")
    assert found.problem.startswith("the image is no PNG, JPEG, WebP")
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["DDS", "SPIDER", "ICO", "TGA", "PCX", "SGI"])
def test_rare_formats_are_one_reason(kind):
    with pytest.raises(OtherFormat, match="or damaged from the start"):
        decode(bytes_of(RAMP.convert("F") if kind == "SPIDER" else RAMP, kind))


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(20 * 2**30)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    told = {
        "pipe.png": "(it is not a regular file)",
        "zero.png": "(it is not a regular file)",
        "sparse.png": f"(it has {20 * 2**30} bytes, and at most {IMAGE_BYTES} are read)",
        "folder.png": "(Is a directory)",
        "loop.png": "(Too many levels of symbolic links)",
        "x" * 300: "(File name too long)",
    }
    for name, reason in told.items():
        found = read_image(tmp_path / name)
        assert (found.image, found.sha256, found.missing) == (None, "", False)
        assert found.problem == f"the image file cannot be read {reason}"
    for name in ("absent.png", "absent/a.png"):
        assert read_image(tmp_path / name).problem == f"there is no image {tmp_path / name}"
        assert read_image(tmp_path / name).missing


def mutations(kind, count):
    """Damaged files of a format, always the same: flipped bytes, cuts, repeated and zeroed stretches."""
    dice = random.Random(kind)
    data = bytes_of(RAMP, kind)
    for _ in range(count):
        body = bytearray(data)
        start = dice.randrange(len(body))
        how = dice.randrange(4)
        if how == 0:
            for _ in range(dice.randint(1, 8)):
                body[dice.randrange(len(body))] = dice.randrange(256)
        elif how == 1:
            del body[start:]
        elif how == 2:
            body[start : start + 16] = bytes(16)
        else:
            body[start:start] = body[start : start + dice.randint(1, 64)]
        yield bytes(body)


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_is_an_image_or_a_reason_that_is_always_the_same(kind):
    for data in mutations(kind, 120):
        told = _told(data)
        assert told == _told(data)
        assert " at 0x" not in str(told)


def _told(data):
    try:
        return decode(data).size
    except Unreadable as error:
        return str(error)


def test_the_reason_goes_through_processes():
    error = pickle.loads(pickle.dumps(TooLarge("is too large")))
    assert str(error) == "the image is too large"


def test_a_strip_of_the_longest_side_is_read():
    assert decode(bytes_of(Image.new("L", (IMAGE_SIDE, 1)))).size == (IMAGE_SIDE, 1)
