"""What text encoders make of prompts, kept: a text that was read once is not read again, by any run on this machine.

Every text is read alone, so that what is kept of it depends on no other. It is found by the model's text parts and by
the numbers that this machine gives for one text: what comes from the cache is what reading would give, to the last bit.
"""

import hashlib
import logging
import math
import os
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rewards.errors import UsageError
from rewards.files import sha256_of

log = logging.getLogger(__name__)

PLACE = "DGPO_EMBEDDINGS_DIR"
LARGEST = "DGPO_EMBEDDINGS_GB"
DEFAULT_GB = 20.0
IN_MEMORY = 2**29
"""Bytes that a process keeps beside the disk."""
AFTER = 0.8  # of the limit, which is left when there was no room
LOOKS = 64  # at the disk while the limit is filled: other processes fill it too
AN_HOUR_S = 3600.0
OURS = re.compile(r"[0-9a-f]{64}/[0-9a-f]{2}/([0-9a-f]{64}|\.[0-9a-f]{32})\.safetensors")
"""MODEL/TE/TEXT: what stands under the folder, and what was being written when a process was killed."""
Tensors = Mapping[str, torch.Tensor]


class Embeddings:
    """The embeddings of one model's texts, in memory and on disk."""

    def __init__(self, folder: Path | None, *, limit: float = DEFAULT_GB * 1e9) -> None:
        """`folder` is the model's own, beside those of others, which have `limit` bytes together; None is memory alone.

        What was used longest ago goes first, in memory and on disk.
        """
        self.folder, self.limit = folder, limit
        self.memory: OrderedDict[str, Tensors] = OrderedDict()
        self.held = 0
        self.room = 0.0

    def find(self, text: str) -> Tensors | None:
        """On the CPU; None where the text was not read yet, or the file of it is damaged."""
        if text in self.memory:
            self.memory.move_to_end(text)
            return self.memory[text]
        path = self._path(text)
        found = None if path is None else _read(path)
        if found is not None and path is not None:
            _touch(path)
            self._remember(text, found)
        return found

    def keep(self, text: str, tensors: Tensors) -> None:
        """Whoever finds it afterwards, in this process or another, gets these numbers."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._remember(text, tensors)
        path = self._path(text)
        data = save(dict(tensors), {"sha256": _digest(tensors)})
        if path is None or len(data) > self.limit:
            return
        partial = path.with_name(f".{uuid.uuid4().hex}.safetensors")
        try:
            self._make_room(len(data))
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            log.warning("embeddings of prompts are not kept on disk from here on: %s (%s)", error, PLACE)
            self.folder = None

    def _path(self, text: str) -> Path | None:
        name = sha256_of(text)
        return None if self.folder is None else self.folder / name[:2] / f"{name}.safetensors"

    def _remember(self, text: str, tensors: Tensors) -> None:
        self.held += _size(tensors) - _size(self.memory.pop(text, {}))
        self.memory[text] = tensors
        while self.held > IN_MEMORY and len(self.memory) > 1:
            self.held -= _size(self.memory.popitem(last=False)[1])

    def _make_room(self, size: int) -> None:
        """For a file of so many bytes; the disk is looked at again when a part of the limit was written."""
        assert self.folder is not None
        if self.room < size:
            self.room = min(_free_up(self.folder.parent, self.limit), self.limit / LOOKS)
        self.room -= size


def open_embeddings(model: str | None, probe: Tensors, **settings: object) -> Embeddings:
    """Those of a model, on disk where its contents are known.

    Args:
        model: what tells its text parts from others'.
        probe: what it makes of some text here and now: in this precision, on this device, by these libraries.
        settings: what else changes an embedding.

    Raises:
        UsageError: DGPO_EMBEDDINGS_GB is no number.
    """
    limit = _limit()
    if model is None or limit == 0:
        return Embeddings(None)
    key = sha256_of(f"{model} {_digest(probe)} {sorted(settings.items())}")
    return Embeddings(cache_folder() / key, limit=limit)


def describe_machine(device: torch.device) -> str:
    """What decides by which kernels a device computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"


def cache_folder() -> Path:
    """DGPO_EMBEDDINGS_DIR, or beside the other files of ours in the model hub's cache."""
    from huggingface_hub import constants

    place = Path(os.environ.get(PLACE) or Path(constants.HF_HUB_CACHE) / "dgpo" / "embeddings")
    return place.expanduser().absolute()  # a reward may change the working directory


def _limit() -> float:
    text = os.environ.get(LARGEST, str(DEFAULT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise UsageError(f"{LARGEST} is {text!r}; give a number of gigabytes (0 keeps nothing on disk).")
    return gigabytes * 1e9


def _read(path: Path) -> Tensors | None:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
            stated = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return tensors if stated == _digest(tensors) else None


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _touch(path: Path) -> None:
    with suppress(OSError):  # somebody else's cache, or just removed
        os.utime(path)


def _free_up(folder: Path, limit: float) -> float:
    """Remove the files used longest ago if there is no room; returns the room that there is."""
    files = sorted((stat.st_mtime, stat.st_size, path) for path, stat in _stats(folder))
    used = sum(size for _, size, _ in files)
    if used < limit:
        return limit - used
    for _, size, path in files:
        path.unlink(missing_ok=True)
        used -= size
        if used <= AFTER * limit:
            break
    return limit - used


def _stats(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Of our own files alone: the folder may hold others, which are not ours to remove."""
    found = []
    for path in folder.glob("*/*/*.safetensors"):
        if not OURS.fullmatch(path.relative_to(folder).as_posix()):
            continue
        with suppress(OSError):  # another process has removed it meanwhile
            stat = path.stat()
            if not path.name.startswith(".") or stat.st_mtime < time.time() - AN_HOUR_S:  # else it is being written
                found.append((path, stat))
    return found
