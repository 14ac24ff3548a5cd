"""In which precision a network computes: as asked, as an earlier part of the work did, or as fits the machine.

bf16 halves time and memory where the processor has instructions for it. Where it has none, torch imitates them: a CPU
then draws and learns several times slower than in fp32. So `auto` is bf16 where it is native and fp32 everywhere else.

fp16 is never chosen by itself. Its smallest numbers are too large for gradients (training would need a loss scaler, and
is refused), its largest too small for some text encoders and autoencoders. It can be asked for where one only draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]
Wanted = Literal["auto", "fp32", "bf16", "fp16"]
Quantize = Literal["none", "int8", "nf4"]
"""In how many bits frozen weights are held beside the precision that is computed in."""

AUTO: Final = "auto"

# By what name torch knows each.
TORCH_NAMES: Final[Mapping[str, str]] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

# As Linux lists them in /proc/cpuinfo: x86 with AVX512-BF16 or AMX-BF16, and ARM. AVX512 alone has none (torch's
# `_is_mkldnn_bf16_supported` says yes to it), and AVX-NE-CONVERT only converts.
CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
NATIVE_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Machine:
    """The processor that a network runs on, by a name for sentences, and whether it computes in bf16 itself."""

    name: str
    bf16: bool
    cpu: bool = False


@dataclass(frozen=True)
class Settled:
    """A precision and why it is this one."""

    dtype: Precision
    reason: str

    def __str__(self) -> str:
        return f"{self.dtype} ({self.reason})"


def settle(wanted: Wanted, machine: Machine, *, earlier: Wanted = AUTO, since: str = "") -> Settled:
    """Choose: what is asked for by name comes first, then what was settled `earlier`, then what fits the machine.

    `since` says where an earlier choice comes from, as in "as this run began".

    >>> str(settle("auto", Machine("this CPU", bf16=False, cpu=True)))
    'fp32 (this CPU has no bf16 instructions; bf16 would be several times slower)'
    """
    if wanted != AUTO:
        return Settled(wanted, "as asked" + _warning(wanted, machine))
    if earlier != AUTO:
        return Settled(earlier, since + _warning(earlier, machine))
    if machine.bf16:
        return Settled("bf16", f"{machine.name} computes in it")
    if machine.cpu:
        return Settled("fp32", f"{machine.name} has no bf16 instructions; bf16 would be several times slower")
    return Settled("fp32", f"{machine.name} does not compute in bf16 itself")


def _warning(precision: Precision, machine: Machine) -> str:
    imitated = (precision == "bf16" and not machine.bf16) or (precision == "fp16" and machine.cpu)
    return f"; {machine.name} does not compute in it itself, so fp32 is faster here" if imitated else ""


def held_in(settled: Settled, quantize: str) -> Settled:
    """The same for frozen weights in fewer bits, if they are, and what that means."""
    if quantize == "none":
        return settled
    note = f"frozen weights are held in {quantize}, which draws a little differently than the whole model"
    return Settled(settled.dtype, f"{settled.reason}; {note}")


def dtype_of(precision: str) -> torch.dtype:
    """Torch's own value of a precision.

    >>> dtype_of("bf16")
    torch.bfloat16
    """
    import torch

    return getattr(torch, TORCH_NAMES[precision])


def examine(device: torch.device) -> Machine:
    """The processor behind a device."""
    import torch

    if device.type == "cpu":
        table = Path("/proc/cpuinfo")
        return Machine("this CPU", cpu_has_bf16(table.read_text() if table.is_file() else ""), cpu=True)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        rocm = torch.version.hip is not None
        return Machine(torch.cuda.get_device_name(device), gpu_has_bf16(capability, rocm=rocm))
    return Machine(f"the device {device.type}", bf16=False)


def cpu_has_bf16(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo names instructions for bf16; without the file (macOS) there are none for torch.

    >>> cpu_has_bf16("flags : fpu avx2 avx512f avx512_bf16"), cpu_has_bf16("flags : fpu avx2 avx512f avx512_vnni")
    (True, False)
    """
    names = ("flags", "Features")
    lines = [line.partition(":")[2] for line in cpuinfo.splitlines() if line.startswith(names)]
    return bool(lines) and all(CPU_FLAGS & set(line.split()) for line in lines)


def gpu_has_bf16(capability: tuple[int, int], *, rocm: bool) -> bool:
    """NVIDIA from Ampere (8.0) on; of AMD's, all that ROCm's torch is built for."""
    return rocm or capability >= NATIVE_CAPABILITY


def describe_parts(parts: Mapping[str, str]) -> str:
    """The precision of a model's networks in a few words.

    >>> describe_parts({"transformer": "bf16", "vae": "bf16"})
    'bf16'
    >>> describe_parts({"transformer": "bf16", "vae": "fp32", "text_encoder": "fp32"})
    'text_encoder fp32, transformer bf16, vae fp32'
    """
    precisions = set(parts.values())
    if len(precisions) == 1:
        return precisions.pop()
    return ", ".join(f"{part} {precision}" for part, precision in sorted(parts.items()))
