"""Which attention kernel a training step uses."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def training_attention(device: torch.device) -> AbstractContextManager:
    """Plain matrix products on the CPU, PyTorch's own choice elsewhere.

    The fused CPU kernel's backward took 45 % of a training step of the embedded model (docs/log.md).
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
