"""From a network's logits to scored boxes and masks, by mmdet's formulas (those of transformers are others).

Source: `instance_postprocess` and `simple_test` of mmdet 2.28.2, models/seg_heads/panoptic_fusion_heads.

Legend: Q queries, C classes, D detections, K different queries among them, H, W the size of the picture in pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

MOST_DETECTIONS = 100
_QUERIES_AT_ONCE = 16  # masks that are resized together; the logits of one at 1024 x 1024 take 4 MB
_EMPTY = 1e-6


@dataclass(frozen=True)
class Frame:
    """Sizes (height, width) of one picture: as it was given, as resized, and as padded for the network."""

    given: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


def find_objects(
    classes_QC: torch.Tensor, masks_Qhw: torch.Tensor, frame: Frame, above: float = 0.0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The detections of one picture, by class: rows (x0, y0, x1, y1, score) and their masks bool [., H, W].

    The 100 pairs of query and class with the highest probability are detections, so a query may be several of them. A
    score is the probability times the mask's mean probability within the mask, and 0 for an empty mask.

    Args:
        classes_QC: fp32 logits of the classes, and of "nothing" last.
        masks_Qhw: fp32 logits at a quarter of the padded size.
        above: pairs whose probability is not higher are left out before their masks are made. As no score is higher
            than its probability, whoever wants scores above this loses none.
    """
    classes = classes_QC.shape[1] - 1
    probability = classes_QC.softmax(-1)[:, :-1].flatten()
    best, index = probability.topk(min(MOST_DETECTIONS, len(probability)), sorted=False)
    if above > 0:
        index, best = index[best > above], best[best > above]
    queries, position = (index // classes).unique(return_inverse=True)
    masks_KHW, share_K, boxes_K4 = _resize(masks_Qhw, queries, frame)
    rows = torch.cat([boxes_K4[position], (best * share_K[position])[:, None]], dim=1).cpu().numpy()
    position, labels = position.cpu().numpy(), (index % classes).cpu().numpy()
    return [(rows[labels == label], masks_KHW[position[labels == label]]) for label in range(classes)]


def _resize(
    masks_Qhw: torch.Tensor, queries: torch.Tensor, frame: Frame
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """The masks of some queries at the picture's size, each one's mean probability within itself, and its box.

    In two steps, as the padding has to go between them.
    """
    height, width = frame.resized
    masks = [torch.zeros(0, *frame.given, dtype=torch.bool)]
    shares, boxes = [masks_Qhw.new_zeros(0)], [masks_Qhw.new_zeros(0, 4)]
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[start : start + _QUERIES_AT_ONCE]
        logits = interpolate(masks_Qhw[some][None], frame.padded, mode="bilinear", align_corners=False)
        logits = logits[:, :, :height, :width]
        logits = interpolate(logits, frame.given, mode="bilinear", align_corners=False)[0]
        inside = logits > 0
        weight = inside.float()
        shares.append((logits.sigmoid() * weight).flatten(1).sum(1) / (weight.flatten(1).sum(1) + _EMPTY))
        boxes.append(_frame(inside))
        masks.append(inside.cpu())
    return torch.cat(masks).numpy(), torch.cat(shares), torch.cat(boxes)


def _frame(inside_KHW: torch.Tensor) -> torch.Tensor:
    """The boxes [K, 4] of masks, x1 and y1 just outside; zeros for an empty mask.

    >>> mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    >>> mask[0, 1:3, 2] = True
    >>> _frame(mask).tolist()
    [[2.0, 1.0, 3.0, 3.0]]
    """
    columns_KW, rows_KH = inside_KHW.any(1), inside_KHW.any(2)
    sides = []
    for line in (columns_KW, rows_KH):
        size = line.shape[1]
        first = line.int().argmax(1)  # the first of equal ones
        last = size - line.flip(1).int().argmax(1)
        sides.append((first, last))
    (x0, x1), (y0, y1) = sides
    boxes = torch.stack([x0, y0, x1, y1], dim=1).float()
    return boxes * inside_KHW.flatten(1).any(1, keepdim=True)
