"""GenEval's object detector without mmdet: pictures in, boxes and masks of the 80 classes out, as mmdet 2.x gives them.

The pictures are prepared as by mmdet 2.x's test pipeline: OpenCV's bilinear resize of the 8-bit picture, grey padding,
then normalising. mmdet 3.x prepares them otherwise (in floating point, with zeros) and finds other objects.

Shapes: B images, H, W the padded size.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image

from rewards.errors import ScoringError
from rewards.geneval.detections import Raw
from rewards.geneval.masks import Frame, find_objects
from rewards.geneval.network import Mask2Former, load_network
from rewards.geneval.resize import resize
from rewards.images import rgb
from rewards.networks.device import exactly

LONG_SIDE, SHORT_SIDE = 1333, 800
PADDED_TO = 32
GREY = 128
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
_GPU_BATCH = 8  # on a CPU a batch takes as long as its images one by one, and more memory


class Mask2FormerDetector:
    """The published checkpoint of mmdet 2.x or 3.x, or another of its kind with an arch.json beside it.

    Args:
        checkpoint: the .pth file.
        architecture: its arch.json if that lies elsewhere.
        dtype: of the backbone; the rest is fp32.
        swap_channels: give the network blue for red and red for blue, as the published training code does.
        above: detections whose score cannot be higher are left out before their masks are made; 0 keeps all 100.
        batch: images a forward pass; by default 8 on a GPU and 1 on a CPU.

    Raises:
        SetupError: the checkpoint is not what it should be; it is read here and moved at the first image.
    """

    def __init__(
        self,
        checkpoint: Path,
        architecture: Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        swap_channels: bool = False,
        above: float = 0.0,
        batch: int | None = None,
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self.swap_channels, self.above = swap_channels, above
        self.batch = batch or (1 if self.device.type == "cpu" else _GPU_BATCH)
        resolved = architecture.resolve() if architecture else None
        self._network = load_network(checkpoint.resolve(), resolved, dtype, self.device)

    @cached_property
    def network(self) -> Mask2Former:
        self._network.place(self.device, self.dtype)
        return self._network

    def detect(self, images: Sequence[Image]) -> list[Raw]:
        """For each image, by class, rows (x0, y0, x1, y1, score) as float32 [N, 5] and masks as bool [N, H, W].

        Images that are padded to one size go through the network together.

        Raises:
            ScoringError: an image without pixels, or one of which the network makes numbers that are none.
        """
        network = self.network.eval()  # whoever has touched it
        found: dict[int, Raw] = {}
        with exactly(self.device):
            for places, frames, pixels_B3HW in self._batches(images):
                classes_BQC, masks_BQhw = network(pixels_B3HW)
                for place, frame, classes, masks in zip(places, frames, classes_BQC, masks_BQhw, strict=True):
                    if not (classes.isfinite().all() and masks.isfinite().all()):
                        raise ScoringError("the detector's numbers overflow on this image; take dtype=fp32 or bf16.")
                    found[place] = find_objects(classes, masks, frame, self.above)
        return [found[place] for place in range(len(images))]

    def _batches(self, images: Sequence[Image]) -> Iterator[tuple[list[int], list[Frame], torch.Tensor]]:
        """Positions, sizes and normalised pixels [B, 3, H, W] of images with one padded size."""
        frames = [measure(image) for image in images]
        alike: dict[tuple[int, int], list[int]] = {}
        for place, frame in enumerate(frames):
            alike.setdefault(frame.padded, []).append(place)
        for places in alike.values():
            for start in range(0, len(places), self.batch):
                some = places[start : start + self.batch]
                pixels = [prepare(images[place], frames[place], self.swap_channels) for place in some]
                yield some, [frames[place] for place in some], self._normalise(np.stack(pixels))

    def _normalise(self, pixels_BHW3: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(pixels_BHW3).to(self.device).float()
        mean, std = (torch.tensor(values, device=self.device) for values in (MEAN, STD))
        return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()


def measure(image: Image) -> Frame:
    """The sizes that an image goes through.

    Raises:
        ScoringError: it has no pixels, before or after.
    """
    width, height = image.size
    scale = min(LONG_SIDE / max(width, height, 1), SHORT_SIDE / max(min(width, height), 1))
    resized = (int(height * scale + 0.5), int(width * scale + 0.5))
    if 0 in resized:
        raise ScoringError(f"an image of {width} x {height} pixels has nothing left at the detector's size")
    padded = (_round_up(resized[0]), _round_up(resized[1]))
    return Frame((height, width), resized, padded)


def prepare(image: Image, frame: Frame, swap_channels: bool = False) -> np.ndarray:
    """Pixels as uint8 [H, W, 3], resized and padded with grey on the right and below, before normalising."""
    pixels = np.asarray(rgb(image))
    if swap_channels:
        pixels = pixels[:, :, ::-1]
    height, width = frame.resized
    padded = np.full((*frame.padded, 3), GREY, np.uint8)
    padded[:height, :width] = resize(pixels, width, height)
    return padded


def _round_up(size: int) -> int:
    return -(-size // PADDED_TO) * PADDED_TO
