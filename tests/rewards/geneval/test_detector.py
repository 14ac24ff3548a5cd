"""mmdet 2.28.2's detections on three pictures and both channel orders, from PNG; and what may not change them."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.errors import ScoringError
from rewards.geneval.detections import keep_objects
from rewards.geneval.detector import Mask2FormerDetector, measure, prepare
from rewards.geneval.masks import Frame
from rewards.geneval.network import load_network

GOLDEN = Path(__file__).parents[2] / "golden/geneval/detector"
TINY = GOLDEN / "tiny_mmdet2.pth", GOLDEN / "tiny_arch.json"
NAMES, INPUTS = ("sq512", "land", "tall"), ("file", "rgbarray")


def picture(name):
    return Image.open(GOLDEN / f"{name}.png").convert("RGB")


def strip(name="land", top=0):
    """A cheap picture: as long as the detector takes, and narrow."""
    return picture(name).crop((0, top, 500, top + 40))


@cache
def detector(**options):
    return Mask2FormerDetector(*TINY, **options)


@cache
def detected(name, inputs):
    return detector(swap_channels=inputs == "rgbarray").detect([picture(name)])[0]


def flatten(raw):
    """Labels, rows and masks, sorted by label and falling score."""
    labels = np.repeat(np.arange(len(raw)), [len(rows) for rows, _ in raw])
    return arrange(labels, *(np.concatenate(parts) for parts in zip(*raw, strict=True)))


def arrange(labels, rows, masks):
    order = np.lexsort((-rows[:, 4], labels))
    return labels[order], rows[order], masks[order]


@cache
def recorded(name, inputs):
    with np.load(GOLDEN / f"{name}_{inputs}.npz") as file:
        shape = tuple(file["masks_shape"])
        masks = np.unpackbits(file["masks_packed"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        return *arrange(file["labels"], file["boxes_scores"], masks), file["cls_logits"]


def overlap(masks, others):
    both, either = (masks & others).sum((1, 2)), (masks | others).sum((1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1)


def assert_same(raw, other, score=1e-4):
    labels, rows, masks = flatten(raw)
    other_labels, other_rows, other_masks = flatten(other)
    assert np.array_equal(labels, other_labels)
    assert rows[:, 4] == pytest.approx(other_rows[:, 4], abs=score)
    assert np.abs(rows[:, :4] - other_rows[:, :4]).max() <= 1
    assert overlap(masks, other_masks).min() >= 0.999


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_detections_of_mmdet(name, inputs):
    labels, rows, masks = flatten(detected(name, inputs))
    mmdet_labels, mmdet_rows, mmdet_masks, _ = recorded(name, inputs)
    assert np.array_equal(labels, mmdet_labels)
    assert rows[:, 4] == pytest.approx(mmdet_rows[:, 4], abs=1e-3)
    assert np.abs(rows[:, :4] - mmdet_rows[:, :4]).max() <= 1
    assert overlap(masks, mmdet_masks).min() >= 0.999


def test_the_kept_objects_are_those_of_mmdet():
    for name in NAMES:
        mmdet_labels, mmdet_rows, mmdet_masks, _ = recorded(name, "file")
        mmdet = [(mmdet_rows[mmdet_labels == label], mmdet_masks[mmdet_labels == label]) for label in range(80)]
        ours, theirs = (keep_objects(raw, "colors") for raw in (detected(name, "file"), mmdet))
        assert {key: len(found) for key, found in ours.items()} == {key: len(found) for key, found in theirs.items()}
        assert ours


@pytest.mark.parametrize("name", ["tall"])
def test_class_logits_of_mmdet(name):
    network = detector().network
    pixels = detector()._normalise(prepare(picture(name), measure(picture(name)))[None])
    with torch.inference_mode():
        classes, _ = network(pixels)
    assert classes[0].numpy() == pytest.approx(recorded(name, "file")[-1], abs=5e-3)


def test_the_form_of_what_is_returned():
    raw = detected("land", "file")
    assert len(raw) == 80
    assert sum(len(rows) for rows, _ in raw) == 100
    for rows, masks in raw:
        assert rows.dtype == np.float32
        assert masks is not None
        assert masks.dtype == bool
        assert masks.shape == (len(rows), 427, 640)


def test_batches_order_and_other_sizes_change_nothing():
    images = [strip(top=0), picture("tall").crop((0, 0, 40, 500)), strip(top=200), strip(top=380)]
    alone = [detector().detect([image])[0] for image in images]
    together = Mask2FormerDetector(*TINY, batch=3).detect(images)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert not np.array_equal(flatten(alone[0])[0], flatten(alone[2])[0])


def test_no_images():
    assert detector().detect([]) == []


def test_swapping_channels_is_swapping_channels():
    image = strip()
    swapped = Image.fromarray(np.asarray(image)[:, :, ::-1])
    assert_same(detector(swap_channels=True).detect([image])[0], detector().detect([swapped])[0], score=0)
    assert not np.array_equal(flatten(detector().detect([image])[0])[0], flatten(detector().detect([swapped])[0])[0])


def test_leaving_out_low_scores_loses_no_kept_object():
    image = strip()
    every, few = detector().detect([image])[0], detector(above=0.3).detect([image])[0]
    assert sum(len(rows) for rows, _ in few) < 100
    kept, kept_of_few = keep_objects(every, "position"), keep_objects(few, "position")
    assert kept
    assert {name: [(found.box, found.score) for found in objects] for name, objects in kept.items()} == {
        name: [(found.box, found.score) for found in objects] for name, objects in kept_of_few.items()
    }


def test_a_network_in_training_mode_detects_the_same():
    image = strip()
    before = detector().detect([image])[0]
    detector().network.train()
    assert_same(before, detector().detect([image])[0], score=0)


def test_transparency_and_grey_are_as_their_colours():
    image = strip()
    see_through = image.copy()
    see_through.putalpha(7)
    assert_same(detector().detect([image])[0], detector().detect([see_through])[0], score=0)
    grey = image.convert("L")
    assert_same(detector().detect([grey])[0], detector().detect([grey.convert("RGB")])[0], score=0)


def test_a_reduced_precision_is_for_the_backbone_alone():
    half = Mask2FormerDetector(*TINY, dtype=torch.bfloat16)
    raw = half.detect([strip()])[0]
    dtypes = {name.split(".")[2]: tensor.dtype for name, tensor in half.network.named_parameters() if "pixel_l" in name}
    assert dtypes == {"encoder": torch.bfloat16, "decoder": torch.float32}
    assert half.network.class_predictor.weight.dtype == torch.float32
    assert detector().network.model.pixel_level_module.encoder.dtype == torch.float32
    rows = np.concatenate([rows for rows, _ in raw])
    exact = np.concatenate([rows for rows, _ in detector().detect([strip()])[0]])
    assert len(rows) == 100
    assert np.sort(rows[:, 4]) == pytest.approx(np.sort(exact[:, 4]), abs=0.1)


def test_numbers_that_are_none_are_not_an_empty_picture(tmp_path):
    broken = torch.load(TINY[0], weights_only=True)
    broken["state_dict"]["panoptic_head.cls_embed.bias"][3] = float("nan")
    torch.save(broken, tmp_path / "nan.pth")
    with pytest.raises(ScoringError, match="overflow"):
        Mask2FormerDetector(tmp_path / "nan.pth", TINY[1]).detect([strip()])


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (1, 3000)])
def test_an_image_without_pixels(size):
    with pytest.raises(ScoringError, match="nothing left"):
        detector().detect([Image.new("RGB", size)])


@pytest.mark.parametrize(
    ("size", "resized", "padded"),
    [
        ((512, 512), (800, 800), (800, 800)),
        ((1024, 1024), (800, 800), (800, 800)),
        ((640, 427), (800, 1199), (800, 1216)),
        ((260, 700), (1333, 495), (1344, 512)),
        ((1344, 768), (762, 1333), (768, 1344)),
    ],
)
def test_sizes(size, resized, padded):
    assert measure(Image.new("RGB", size)) == Frame((size[1], size[0]), resized, padded)


def test_padding_is_grey_and_right_and_below():
    image = Image.new("RGB", (640, 427), (250, 10, 0))
    pixels = prepare(image, measure(image))
    assert (pixels[:, :1199] == (250, 10, 0)).all()
    assert (pixels[:, 1199:] == 128).all()
    assert (prepare(image, measure(image), swap_channels=True)[:, :1199] == (0, 10, 250)).all()
    normalised = detector()._normalise(pixels[None])
    assert normalised[0, :, 0, -1].tolist() == pytest.approx(
        [(128 - 123.675) / 58.395, (128 - 116.28) / 57.12, (128 - 103.53) / 57.375]
    )


def test_equal_files_share_one_network():
    weights, sizes = (path.resolve() for path in TINY)
    assert detector().network is load_network(weights, sizes, torch.float32, torch.device("cpu"))
    assert Mask2FormerDetector(*TINY, above=0.3).network is detector().network
