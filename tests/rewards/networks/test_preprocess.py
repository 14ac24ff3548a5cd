"""Each way of preparing against recorded pixels of the originals, and by hand where they differ."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from rewards.errors import ScoringError, SetupError
from rewards.networks.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    Way,
    as_jpeg,
    bilinear,
    pad_longest,
    pad_to_square,
    read_way,
    resize_first,
    rgb_first,
    squared,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
MODERN = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.25, 0.125],
    "image_std": [1.0, 0.5, 0.25],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}


def black(channel):
    return -CLIP_MEAN[channel] / CLIP_STD[channel]


def columns(width, height=4, mode="L"):
    """An image whose pixels say in which column they stand."""
    image = Image.new("L", (width, height))
    image.putdata([x for _ in range(height) for x in range(width)])
    return image.convert(mode)


def levels(pixels):
    """Grey levels 0 to 255 of the first channel's first row."""
    return [round(value) for value in ((pixels[0, 0] * CLIP_STD[0] + CLIP_MEAN[0]) * 255).tolist()]


def recorded(name):
    golden = json.loads((GOLDEN / name / "golden.json").read_text())
    return [Image.open(GOLDEN / "images" / file) for file in golden["images"]], golden


@pytest.mark.parametrize(("name", "prepare"), [("imagereward", resize_first), ("pickscore", rgb_first)])
def test_pixels_are_those_of_the_original(name, prepare):
    images, golden = recorded(name)
    probe = golden["pixel_values_probe"]
    for row, image in enumerate(images):
        pixels = prepare(image, 224)
        assert pixels.shape == (3, 224, 224)
        at_places = [pixels[:, y, x].tolist() for y, x in probe["positions_y_x"]]
        assert at_places == [pytest.approx(rgb, abs=1e-6) for rgb in probe["values[image][pos][rgb]"][row]]
        summary = torch.stack([pixels.double().mean((1, 2)), pixels.double().std((1, 2), correction=0)], 1)
        wanted = torch.tensor(golden["pixel_values_mean_std_per_image_channel"][row], dtype=torch.float64)
        torch.testing.assert_close(summary, wanted, atol=2e-5, rtol=0)


def test_padded_pixels_are_those_of_the_original():
    images, golden = recorded("hpsv2")
    for image, wanted in zip(images, golden["pixel_values_mean_std_per_image_channel"], strict=True):
        if wanted is None or image.mode == "RGBA":
            continue
        pixels = pad_longest(image, 224, antialias=False).double()
        summary = torch.stack([pixels.mean((1, 2)), pixels.std((1, 2), correction=0)], 1)
        torch.testing.assert_close(summary, torch.tensor(wanted, dtype=torch.float64), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("extra", "rgb", "resize"), [(1, 0, 0), (2, 1, 1), (3, 1, 2), (5, 2, 2), (7, 3, 4)])
def test_the_crop_starts_at_half_the_rest_rounded_down_or_to_even(extra, rgb, resize):
    image = columns(4 + extra)
    assert levels(rgb_first(image, 4)) == list(range(rgb, rgb + 4))
    assert levels(resize_first(image, 4)) == list(range(resize, resize + 4))
    assert levels(bilinear(image, 4, antialias=True)) == list(range(resize, resize + 4))


def test_the_longer_side_is_cut_to_whole_pixels():
    """7 x 5 to 3 high: 7 * 3 / 5 = 4.2, so 4 columns, cut at (4 - 3) // 2 = 0."""
    assert rgb_first(columns(7, 5), 3).shape == (3, 3, 3)
    image = columns(7, 5).resize((4, 3), Image.Resampling.BICUBIC)
    assert levels(rgb_first(columns(7, 5), 3)) == list(image.crop((0, 0, 3, 1)).tobytes())


def test_normalisation_by_hand():
    pixels = rgb_first(Image.new("RGB", (2, 2), (255, 0, 51)), 2)
    wanted = [(1 - CLIP_MEAN[0]) / CLIP_STD[0], black(1), (0.2 - CLIP_MEAN[2]) / CLIP_STD[2]]
    assert pixels[:, 0, 1].tolist() == pytest.approx(wanted, abs=1e-6)


def test_hidden_colours_count_only_where_alpha_is_dropped_first():
    """Left half opaque black, right half invisible white: premultiplied, the white cannot bleed into the black."""
    image = Image.new("RGBA", (8, 4), (0, 0, 0, 255))
    image.paste((255, 255, 255, 0), (4, 0, 8, 4))
    assert rgb_first(image, 2)[0].max() > 1
    assert resize_first(image, 2)[0].flatten().tolist() == pytest.approx([black(0)] * 4)


def test_a_palette_is_resized_by_nearest_neighbour_only_where_it_is_still_one():
    image = Image.new("P", (2, 2))
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.putdata([0, 1, 0, 1])
    assert levels(resize_first(image, 4)) == [0, 0, 255, 255]
    assert len(set(levels(rgb_first(image, 4)))) == 4


@pytest.mark.parametrize("antialias", [True, False])
def test_the_longer_side_fits_and_the_rest_is_black(antialias):
    """5 x 3 white into 5 x 5 by rows: 1 black above, 1 below; 5 x 2: 1 above and 2 below."""
    pixels = pad_longest(Image.new("RGB", (5, 3), "white"), 5, antialias=antialias)
    white = (1 - CLIP_MEAN[1]) / CLIP_STD[1]
    rows = [black(1), white, white, white, black(1)]
    assert pixels[1, :, 2].tolist() == pytest.approx(rows, abs=1e-5)
    pixels = pad_longest(Image.new("RGB", (2, 5), "white"), 5, antialias=antialias)
    columns_ = [black(1), white, white, black(1), black(1)]
    assert pixels[1, 2].tolist() == pytest.approx(columns_, abs=1e-5)


def test_a_line_keeps_one_pixel():
    assert pad_longest(Image.new("RGB", (4000, 1), "white"), 8, antialias=True)[0].max() > 1


def test_antialiasing_sees_what_sampling_skips():
    """8 columns to 2: without antialiasing only columns 1, 2, 5 and 6 are looked at, and the white one is column 0."""
    image = Image.new("L", (8, 8))
    image.paste(255, (0, 0, 1, 8))
    sharp, smooth = (levels(bilinear(image, 2, antialias=antialias)) for antialias in (False, True))
    assert sharp == [0, 0]
    assert smooth[0] > 10
    assert smooth[1] == 0


@pytest.mark.parametrize("name", ["resize-first", "rgb-first", "bilinear"])
def test_an_image_without_pixels_or_far_too_long_is_refused(name):
    way = Way(name, 224)
    with pytest.raises(ScoringError, match=r"empty \(0 x 5 pixels\)"):
        way(Image.new("RGB", (0, 5)))
    with pytest.raises(ScoringError, match=r"too elongated to be resized \(1 x 3000000 pixels\)"):
        way(Image.new("L", (1, 3_000_000)))
    with pytest.raises(ScoringError, match="empty"):
        pad_longest(Image.new("RGB", (5, 0)), 8, antialias=True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
@pytest.mark.parametrize("name", ["resize-first", "rgb-first", "bilinear"])
def test_every_mode_is_seen(mode, name):
    pixels = Way(name, 6)(columns(9, 7).convert(mode))
    assert pixels.shape == (3, 6, 6)
    assert pixels.isfinite().all()


def test_a_way_is_the_function_with_its_numbers():
    image = columns(9, 7, "RGB")
    numbers = (0.5, 0.25, 0.125), (1.0, 0.5, 0.25)
    assert torch.equal(Way("rgb-first", 5, *numbers)(image), rgb_first(image, 5, *numbers))
    assert torch.equal(Way("resize-first", 5, *numbers)(image), resize_first(image, 5, *numbers))
    assert torch.equal(Way("bilinear", 5, antialias=False)(image), bilinear(image, 5, antialias=False))
    assert not torch.equal(Way("bilinear", 5)(image), bilinear(image, 5, antialias=False))


def write(tmp_path, settings):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(settings))
    return path


def test_both_generations_of_published_settings_are_read():
    """Numbers alone, as up to 2022, and objects, as since then."""
    old = read_way(GOLDEN / "pickscore" / "processor" / "preprocessor_config.json")
    new = read_way(GOLDEN / "pickscore" / "model" / "preprocessor_config.json")
    assert old == new == Way("rgb-first", 224)


def test_settings_that_are_given_are_kept(tmp_path):
    settings = MODERN | {"size": {"shortest_edge": 336}, "crop_size": 336}
    assert read_way(write(tmp_path, settings)) == Way("rgb-first", 336, (0.5, 0.25, 0.125), (1.0, 0.5, 0.25))


def test_settings_that_are_not_given_are_those_of_transformers(tmp_path):
    assert read_way(write(tmp_path, {})) == Way("rgb-first", 224)


@pytest.mark.parametrize(
    "changed",
    [
        {"resample": 2},
        {"do_center_crop": False},
        {"do_resize": False},
        {"do_convert_rgb": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1.0},
        {"size": {"height": 224, "width": 224}},
        {"size": {"shortest_edge": 224, "longest_edge": 448}},
        {"size": {"shortest_edge": 256}},
        {"crop_size": {"height": 224, "width": 112}},
        {"crop_size": 112},
    ],
    ids=str,
)
def test_settings_that_are_not_reproduced_are_named(tmp_path, changed):
    with pytest.raises(SetupError, match="not reproduced here") as caught:
        read_way(write(tmp_path, MODERN | changed))
    name = next(iter(changed))
    words = "crop_size" if name == "size" and changed[name] == {"shortest_edge": 256} else name
    assert f"{words} = " in str(caught.value)


def test_a_square_is_padded_in_the_middle_with_the_mean_rounded_down():
    image = Image.new("RGB", (5, 2), (1, 2, 3))
    square = pad_to_square(image, CLIP_MEAN)
    assert square.size == (5, 5)
    rows = [square.getpixel((4, y)) for y in range(5)]
    assert rows == [(122, 116, 104), (1, 2, 3), (1, 2, 3), (122, 116, 104), (122, 116, 104)]
    assert pad_to_square(image.resize((4, 4)), CLIP_MEAN).getcolors() == [(16, (1, 2, 3))]


def test_a_padded_image_is_resized_as_a_whole():
    pixels = squared(Image.new("RGB", (8, 4), "black"), 4)
    assert pixels.shape == (3, 4, 4)
    assert levels(pixels.mT)[0] > 100  # the border at the top, mixed with none of the image
    assert levels(pixels.mT)[2] < 20


def test_a_square_that_would_take_all_the_memory_is_refused():
    with pytest.raises(ScoringError, match=r"too large to be padded to a square \(100000 x 1 pixels\)"):
        squared(Image.new("RGB", (100_000, 1)), 448)


def test_a_jpeg_is_that_of_the_original():
    folder = GOLDEN.parent / "vlm" / "images"
    sent = as_jpeg(Image.open(folder / "sq512.png"))
    assert sent.tobytes() == Image.open(folder / "sq512_q75.jpg").convert("RGB").tobytes()
    assert as_jpeg(Image.new("LA", (9, 7), (0, 100))).mode == "RGB"
