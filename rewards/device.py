"""Where and how precisely a network runs: the device, the dtype, and nothing that rounds behind our back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rewards.errors import SetupError, UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(wanted: str) -> torch.device:
    """The device of an option's value: auto is this process's GPU (LOCAL_RANK) where there is one, else the CPU.

    Raises:
        UsageError: not a device's name.
        SetupError: a GPU that is not here.
    """
    if wanted == "auto":
        return torch.device("cuda", _own_gpu()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UsageError(f'"{wanted}" is not a device; write auto, cpu, cuda or cuda:N.') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SetupError(f"There is no {device} here ({torch.cuda.device_count()} GPUs); take device=auto or cpu.")
    return device


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Inference without autocast and without TF32, whatever the training around it has switched on."""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def _own_gpu() -> int:
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
