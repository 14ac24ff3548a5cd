"""What the detector finds in each picture, each picture looked at once in a process, whoever asks."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from PIL.Image import Image

from rewards.geneval.detections import Raw
from rewards.networks.features import content_key

MEMORY_BYTES = 256 * 2**20


class DetectionCache:
    """A detector and what it found last.

    Args:
        detect: images to what is found in them; only what can pass `detections.THRESHOLD` is needed.
        memory: bytes of detections that are kept, mostly masks, the least recently used going first.
    """

    def __init__(self, detect: Callable[[Sequence[Image]], Sequence[Raw]], *, memory: int = MEMORY_BYTES) -> None:
        self._detect, self.memory = detect, memory
        self._kept: OrderedDict[bytes, Raw] = OrderedDict()
        self._lock = Lock()

    def look(self, images: Sequence[Image]) -> list[Raw]:
        """The detections of each image, in order; an image that is given twice is looked at once.

        Threads take turns.
        """
        keys = [content_key(image) for image in images]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
            new = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
            if new:
                known.update(zip(new, self._detect(list(new.values())), strict=True))
            self._remember(known)
        return [known[key] for key in keys]

    def _remember(self, known: dict[bytes, Raw]) -> None:
        for key, raw in known.items():
            self._kept[key] = raw
            self._kept.move_to_end(key)
        size = sum(map(_size, self._kept.values()))
        while self._kept and size > self.memory:
            size -= _size(self._kept.popitem(last=False)[1])


def _size(raw: Raw) -> int:
    return sum(rows.nbytes + (0 if masks is None else masks.nbytes) for rows, masks in raw)
