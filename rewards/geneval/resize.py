"""OpenCV's bilinear resize of 8-bit pictures, bit by bit, without OpenCV.

The detector was trained and measured behind `cv2.resize(..., INTER_LINEAR)`: no antialiasing, weights of 11 bits, and
intermediate rounding of its own. Other libraries' bilinear resizes differ from it by a level or more in an eighth of
the pixels, which moves detections.

Legend: H, W the size before, h, w the size after, C channels.
"""

import numpy as np

_ONE = 2048  # weights are in units of 1/2048


def resize(image_HWC: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture at another size, as uint8 [h, w, C].

    The arithmetic is that of OpenCV's fixed-point path for uint8 (imgproc/src/resize.cpp, versions 4 and 5).

    >>> resize(np.array([[[0], [200]]], np.uint8), 4, 1)[0, :, 0].tolist()
    [0, 50, 150, 200]
    """
    if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3:
        raise ValueError(f"an 8-bit picture [H, W, C] is wanted, not {image_HWC.dtype} {image_HWC.shape}")
    left_w, right_w, fraction_w = _place(width, image_HWC.shape[1], inside=True)
    upper_h, lower_h, fraction_h = _place(height, image_HWC.shape[0], inside=False)
    near, far = (weight[None, :, None] for weight in _weigh(fraction_w))
    # Only rows that are used, each once: the picture can shrink as well.
    rows, place = np.unique(np.concatenate([upper_h, lower_h]), return_inverse=True)
    used_rWC = image_HWC[rows].astype(np.int32)
    wide_rwC = (used_rWC[:, left_w] * near + used_rWC[:, right_w] * far) >> 4
    upper, lower = (weight[:, None, None] for weight in _weigh(fraction_h))
    above_hwC = (wide_rwC[place[:height]] * upper) >> 16
    below_hwC = (wide_rwC[place[height:]] * lower) >> 16
    return np.clip((above_hwC + below_hwC + 2) >> 2, 0, 255).astype(np.uint8)


def _place(size: int, before: int, *, inside: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel its two old neighbours and its distance from the first, in [0, 1).

    Outside the outermost centres OpenCV moves the place itself inside along a row (`inside`), and only the neighbours
    along a column.
    """
    position = ((np.arange(size) + 0.5) * (before / size) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    fraction = position - first.astype(np.float32)
    last = before - 1
    if inside:
        outside = (first < 0) | (first >= last)
        first, fraction = first.clip(0, last), np.where(outside, np.float32(0), fraction)
    return first.clip(0, last), (first + 1).clip(0, last), fraction


def _weigh(fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer weights of the two neighbours; halves are rounded to even."""
    near, far = (np.float32(1) - fraction) * np.float32(_ONE), fraction * np.float32(_ONE)
    return np.rint(near).astype(np.int32), np.rint(far).astype(np.int32)
