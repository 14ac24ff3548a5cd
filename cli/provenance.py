"""What a result was made with: program, packages, machine, time and command, written into every run.json."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dgpo import __version__
from dgpo.memory import total_memory

PACKAGES = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "huggingface_hub",
    "tokenizers",
    "open_clip_torch",
    "timm",
    "ftfy",
    "numpy",
    "pandas",
    "pillow",
    "matplotlib",
    "rapidfuzz",
    "onnxruntime",
    "rapidocr",
    "rapidocr_onnxruntime",
    "paddleocr",
    "paddlepaddle",
    "opencv-python-headless",
    "opencv-python",
)


def provenance(command_line: Sequence[str]) -> dict[str, Any]:
    """Facts as plain JSON values; what is not there (a package, a checkout, a GPU) is left out or null."""
    from rewards.run_record import SCHEMA

    return {
        "schema": SCHEMA,
        "dgpo": __version__,
        "git": find_commit(Path(__file__).resolve().parent.parent),
        "python": platform.python_version(),
        "packages": package_versions(),
        "hardware": describe_hardware(),
        "platform": platform.platform(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command_line": list(command_line),
    }


def package_versions() -> dict[str, str]:
    """Version of each package that can change a number, of those installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def find_commit(folder: Path) -> dict[str, Any] | None:
    """Commit of a checkout, and whether tracked files differ from it; None for an installation or without git."""
    if not (folder / ".git").exists():
        return None
    try:
        sha = _ask_git(folder, "rev-parse", "HEAD")
        return {"sha": sha, "dirty": bool(_ask_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": round(total_memory() / 2**30, 1),
        "gpus": gpus,
    }


def available_cores() -> int:
    """Cores this process may use: fewer than the machine has under `taskset`, or within a container's limit of time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    return limited_cores(cores, limit.read_text() if limit.is_file() else "max")


def limited_cores(cores: int, limit: str) -> int:
    """Of so many cores, those that a container's `cpu.max` (microseconds of every so many) leaves; at least one.

    >>> limited_cores(64, "400000 100000"), limited_cores(64, "50000 100000"), limited_cores(64, "max 100000")
    (4, 1, 64)
    """
    quota, _, period = limit.strip().partition(" ")
    if not (quota.isdecimal() and period.isdecimal()):
        return cores
    return min(cores, max(1, int(quota) // int(period)))


def _cpu_name() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _ask_git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()
