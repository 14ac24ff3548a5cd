"""Does the detector see anything at all? Asked before a training begins, as one that sees nothing does not complain.

A broken detector (random layers, wrong preparation of the pictures) finds next to nothing, and every prompt then has
the same low score. To find something proves no more than that it is not broken in this way.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from rewards.errors import SetupError
from rewards.geneval.detection_cache import DetectionCache
from rewards.geneval.detections import THRESHOLD, keep_objects
from rewards.geneval.drawings import draw_objects

DRAWN, NONE = "drawn", "none"
DRAWING = "the drawn "  # begins the names of drawn pictures
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MOST = 16  # pictures of a folder


def find_pictures(folder: Path | None) -> dict[str, Image.Image]:
    """The pictures of a folder, the first 16 by name, or those that are drawn here.

    Raises:
        SetupError: there is no such folder, no picture in it, or one that cannot be read.
    """
    if folder is None:
        return {f"{DRAWING}{name}": image for name, image in draw_objects().items()}
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _ENDINGS)[:_MOST]
    if not paths:
        raise SetupError(f"{folder} has no pictures ({', '.join(_ENDINGS)}) to try the detector on.")
    return {path.name: _read(path) for path in paths}


def show_pictures(
    detector: DetectionCache, pictures: Mapping[str, Image.Image]
) -> Iterator[tuple[str, dict[str, float]]]:
    """The name of each picture, and the classes found in it with their best scores; one picture after another."""
    for name, image in pictures.items():
        found = keep_objects(detector.look([image])[0], tag="")
        yield name, {what: kept[0].score for what, kept in found.items()}


def insist_on_objects(name: str, detector: DetectionCache, folder: Path | None) -> None:
    """Show pictures until something is found.

    Args:
        name: of the reward, for the message.

    Raises:
        SetupError: nothing is found in any; says how to mend it, and how to go on all the same.
    """
    pictures = find_pictures(folder)
    if not any(found for _, found in show_pictures(detector, pictures)):
        raise SetupError(_refuse(name, ", ".join(pictures), drawn=folder is None))


def _refuse(name: str, pictures: str, *, drawn: bool) -> str:
    doubt = (
        "A trained detector should know one of these drawings, though it has learnt from photographs only: to try it "
        f"on yours, give --reward-set {name}.trial=DIR. "
        if drawn
        else ""
    )
    return (
        f"The detector of {name} finds no object with a score above {THRESHOLD} in any of these pictures: {pictures}. "
        f"{doubt}Its weights are probably not those of GenEval's trained detector: `dgpo rewards check {name}` "
        f"compares them with the published ones. To train all the same: --reward-set {name}.trial={NONE}"
    )


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise SetupError(f"{path} cannot be read as a picture ({error}).") from error
