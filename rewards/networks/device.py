"""Where and how precisely a network runs: the device, the dtype, and nothing that rounds behind our back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rewards.errors import SetupError, UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PRODUCTS = (
    (torch.backends.cuda, "matmul"),
    (torch.backends.cudnn, "conv"),
    (torch.backends.mkldnn, "matmul"),
    (torch.backends.mkldnn, "conv"),
)


def pick_device(wanted: str) -> torch.device:
    """The device of an option's value: auto is this process's GPU (LOCAL_RANK) where there is one, else the CPU.

    Equal devices compare equal: cuda without a number is this process's GPU, by its number.

    Raises:
        UsageError: not one of auto, cpu, cuda and cuda:N.
        SetupError: a GPU that is not here.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    kind, colon, number = wanted.partition(":")
    if not (wanted in ("auto", "cuda") or (kind == "cuda" and colon and number.isdecimal())):
        raise UsageError(f'"{wanted}" is not a device; write auto, cpu, cuda or cuda:N.')
    count = torch.cuda.device_count()
    index = int(number) if number else _local_rank() % max(count, 1)
    if index >= count:
        raise SetupError(f"There is no cuda:{index} here ({count} GPUs); take device=auto or cpu.")
    return torch.device("cuda", index)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Inference without autocast, and fp32 that is fp32, whatever the training around it has switched on.

    TF32 on GPUs, and bf16 inside fp32 products on CPUs, are off until the end of the block.
    """
    products = [getattr(backend, name) for backend, name in _PRODUCTS]
    before = [product.fp32_precision for product in products]
    for product in products:
        product.fp32_precision = "ieee"
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for product, precision in zip(products, before, strict=True):
            product.fp32_precision = precision


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))
