"""The most that a device computes in products of matrices: published for GPUs, measured for a CPU."""

import time

import torch

SIDE = 1536
TRIES = 5
# Dense, without sparsity, in TFLOP/s, by a part of the name that the driver gives; as their makers publish them.
BF16_TFLOPS = {
    "H200": 989, "H100 PCIe": 756, "H100": 989, "H800": 989, "A100": 312, "A800": 312, "L40S": 362, "L40": 181,
    "A40": 150, "A10G": 70, "A10": 125, "RTX 4090": 165, "RTX 3090": 71, "L4": 121, "MI300X": 1307, "MI250X": 383,
}  # fmt: skip


def peak_of(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """Floating-point operations a second, and where the figure is from."""
    if device.type == "cuda" and dtype != torch.float32:
        name = torch.cuda.get_device_name(device)
        for part, tflops in BF16_TFLOPS.items():
            if part in name:
                return tflops * 1e12, "as published"
    return measure_peak(device, dtype), "a large product, measured here"


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """By the best of a few products; a GPU that is in no table, and fp32, are measured too."""
    side = SIDE if device.type == "cpu" else 4 * SIDE
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(TRIES + 1):  # the first is slower
        began = time.perf_counter()
        (one @ other)[0, 0].item()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)
