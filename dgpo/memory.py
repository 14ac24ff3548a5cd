"""How much memory there is, and how much of it is left, where a training's tensors go. Imports no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEMINFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its container's limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _number(CONTAINER / "memory.max")
    return machine if limit is None else min(machine, limit)


def room_of(device: "torch.device", processes: int) -> int:
    """Bytes that each of the processes of this machine may fill: its GPU, or its share of the host's memory."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    return total_memory() // processes


def free_memory(device: "torch.device") -> int:
    """Bytes that can still be taken; on the CPU of a system that does not tell, all that the machine has."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    free = total_memory()
    if MEMINFO.is_file():
        available = [line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:")]
        free = min([free, *(int(line.split()[1]) * 1024 for line in available)])
    limit, used = _number(CONTAINER / "memory.max"), _number(CONTAINER / "memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used + _cached()))


def _cached() -> int:
    """Bytes of files that the container holds in memory and gives back when asked; they count as used."""
    table = CONTAINER / "memory.stat"
    rows = [line.split() for line in table.read_text().splitlines()] if table.is_file() else []
    return sum(int(number) for name, number in rows if name in ("inactive_file", "active_file"))


def _number(path: Path) -> int | None:
    """What a file of the container says; None where there is none, or no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
