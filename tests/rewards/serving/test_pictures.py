import io

import pytest
from PIL import Image, PngImagePlugin

from benchmarks.machines.attacks import mutate
from rewards.serving.limits import Limits, Refusal
from rewards.serving.pictures import count_bytes, decode_pictures, open_pictures, restrain_pillow


def bytes_of(image, kind, **rest):
    buffer = io.BytesIO()
    image.save(buffer, kind, **rest)
    return buffer.getvalue()


PICTURE = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
DEFAULT = Limits()


def refuse(parts, limits=DEFAULT):
    with pytest.raises(Refusal) as refusal:
        decode_pictures(open_pictures(parts, limits))
    return refusal.value.status, refusal.value.sentence


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_images_come_back_as_they_were(kind):
    (picture,) = open_pictures([bytes_of(PICTURE, kind, lossless=True)], Limits())
    (shown,) = decode_pictures([picture])
    assert shown.convert("RGB").tobytes() == PICTURE.tobytes()
    assert count_bytes([picture]) == 4 * 40 * 30


def test_pixels_are_counted_before_they_are_decoded():
    data = bytes_of(PICTURE, "PNG")
    head = data[:60]  # header, and hardly any pixel
    assert refuse([head], Limits(image_pixels=40 * 30 - 1))[0] == 413
    assert refuse([head], Limits(image_side=39))[0] == 413
    assert refuse([head, head], Limits(request_pixels=2 * 40 * 30 - 1))[0] == 413
    assert open_pictures([head, head], Limits(request_pixels=2 * 40 * 30, image_pixels=40 * 30, image_side=40))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO"])
def test_other_formats_are_refused_by_their_content(kind):
    assert refuse([bytes_of(PICTURE, "PNG"), bytes_of(PICTURE, kind)]) == (
        415,
        "Image 1 is no PNG, JPEG or WebP, or damaged from the start.",
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_half_an_image_is_refused(kind):
    data = bytes_of(PICTURE, kind)
    assert refuse([data[: len(data) // 2]])[0] == 422


def test_text_in_a_png_is_unpacked_up_to_a_megabyte(monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 64 * 2**20)  # as it is before anything is served
    info = PngImagePlugin.PngInfo()
    for number in range(3):
        info.add_text(f"part {number}", "x" * 500_000, zip=True)
    data = bytes_of(PICTURE, "PNG", pnginfo=info)
    assert len(data) < 10_000
    assert open_pictures([data], Limits())
    restrain_pillow()
    assert refuse([data])[0] == 422


def test_films_are_refused():
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 200)]
    for kind in ("WEBP", "PNG"):
        assert refuse([bytes_of(frames[0], kind, save_all=True, append_images=frames[1:])])[0] == 422


def test_flipped_bytes_are_refused_or_read_and_nothing_else():
    answers = {_answer(data) for data in mutate(seed=5, count=300)}
    assert answers == {200, 415, 422} or answers == {200, 413, 415, 422}


def _answer(data):
    try:
        decode_pictures(open_pictures([data], DEFAULT))
    except Refusal as refusal:
        return refusal.status
    return 200
