"""An installed mmdet, 2.x or 3.x, as GenEval's detector; for checking the one that needs none.

Runs in the old environments that mmdet has wheels for, alone: nothing but mmdet and numpy is imported, and the syntax
is that of Python 3.8. Note that mmdet 3.x prepares images otherwise than 2.x, with which GenEval's numbers were made.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np


class MmdetDetector:
    """A config file of mmdet and its checkpoint, run by mmdet itself.

    Args:
        swap_channels: give it blue for red and red for blue, as the published training code does.

    Raises:
        SetupError: mmdet is not installed or does not load, or the checkpoint belongs to another version or config,
            which mmdet alone would only warn of, leaving layers random.
    """

    def __init__(self, checkpoint: Any, config: Any, *, device: str = "cpu", swap_channels: bool = False) -> None:
        self._mmdet, apis, inference = _import_mmdet()
        self.swap_channels = swap_channels
        self._infer = apis.inference_detector
        self._model = apis.init_detector(str(config), str(checkpoint), device=device)
        try:
            inference.load_checkpoint(self._model, str(checkpoint), map_location="cpu", strict=True)
        except RuntimeError as error:
            raise _mistake(
                f"{checkpoint} does not fit {config} in mmdet {self.version} ({' '.join(str(error).split())[:400]}). "
                "Take checkpoint and config of the installed version; 2.x and 3.x name the layers differently."
            ) from error

    @property
    def version(self) -> str:
        return self._mmdet.__version__

    def detect(self, images: Any) -> list[list[tuple[np.ndarray, np.ndarray | None]]]:
        """For each PIL image, by class, rows (x0, y0, x1, y1, score) as float32 [N, 5] and masks [N, H, W] or None."""
        return [self._detect(np.asarray(image.convert("RGB"))) for image in images]

    def _detect(self, pixels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        # mmdet takes arrays for BGR
        result = self._infer(self._model, np.ascontiguousarray(pixels if self.swap_channels else pixels[:, :, ::-1]))
        if hasattr(result, "pred_instances"):
            return read_instances(result.pred_instances, _count_classes(self._model))
        return read_lists(result, pixels.shape[:2])


def read_lists(result: Any, size: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """What mmdet 2.x returns: rows by class, and beside them, from a network with masks, lists of masks by class.

    Args:
        size: height and width of the image, for the classes without a mask.
    """
    if not isinstance(result, tuple):
        return [(_as_rows(rows), None) for rows in result]
    boxes, masks = result  # of one length, which zip can check from Python 3.10 on
    return [
        (_as_rows(rows), np.asarray(list(found), dtype=bool).reshape(-1, *size))
        for rows, found in zip(boxes, masks)  # noqa: B905
    ]


def read_instances(instances: Any, classes: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """What mmdet 3.x returns: boxes, scores and labels of all classes together, and masks from a network with masks."""
    scores, labels = (_as_array(instances[name]) for name in ("scores", "labels"))
    rows = _as_rows(np.concatenate([_as_array(instances.bboxes), scores[:, None]], axis=1))
    masks = _as_array(instances.masks).astype(bool) if "masks" in instances else None
    return [(rows[labels == label], None if masks is None else masks[labels == label]) for label in range(classes)]


def _as_rows(rows: Any) -> np.ndarray:
    return np.asarray(rows, dtype=np.float32).reshape(-1, 5)


def _as_array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def _count_classes(model: Any) -> int:
    return len(model.dataset_meta["classes"])


def _import_mmdet() -> tuple[Any, Any, Any]:
    try:
        return import_module("mmdet"), import_module("mmdet.apis"), import_module("mmdet.apis.inference")
    except (ImportError, AssertionError) as error:  # it asserts that the version of mmcv is one that it knows
        raise _mistake(
            f"detector=mmdet needs an mmdet that loads ({error}). mmdet and mmcv have no wheels for current Python and "
            "torch; the detector of this package needs neither and gives the same objects: leave the option out."
        ) from error


def _mistake(sentence: str) -> Exception:
    """The package's own error where the package is; a RuntimeError where this file stands alone."""
    try:
        errors = import_module("rewards.errors")
    except ImportError:
        return RuntimeError(sentence)
    return errors.SetupError(sentence)
