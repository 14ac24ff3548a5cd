import pytest
import torch

from dgpo.config import load_config, recipe_names
from dgpo.precision import Machine, cpu_has_bf16, describe_parts, examine, gpu_has_bf16, settle

OLD_CPU = Machine("this CPU", bf16=False, cpu=True)
NEW_CPU = Machine("this CPU", bf16=True, cpu=True)
H100 = Machine("NVIDIA H100 80GB HBM3", bf16=True)
T4 = Machine("Tesla T4", bf16=False)
MPS = Machine("the device mps", bf16=False)

# The lines of /proc/cpuinfo that matter, shortened, with what torch has for each.
CPUS = {
    "AMD EPYC 7003 (AVX2)": ("flags\t\t: fpu sse4_2 fma avx avx2 bmi2 vaes vpclmulqdq", False),
    "Intel Xeon 6148 (AVX512)": ("flags\t\t: fpu avx2 avx512f avx512dq avx512cd avx512bw avx512vl", False),
    "Intel Xeon 8375C (AVX512-VNNI)": (
        "flags\t\t: fpu avx2 avx512f avx512bw avx512vl avx512_vnni avx512_bitalg",
        False,
    ),
    "Intel Core Ultra (AVX-NE-CONVERT)": ("flags\t\t: fpu avx2 avx_vnni avx_ne_convert", False),
    "AMD EPYC 9004 (AVX512-BF16)": ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni", True),
    "Intel Xeon 8481C (AMX-BF16)": ("flags\t\t: fpu avx2 avx512f amx_bf16 avx512_fp16 amx_tile amx_int8", True),
    "ARM Neoverse N1": ("Features\t: fp asimd evtstrm aes fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp", False),
    "ARM Neoverse V1": ("Features\t: fp asimd asimdhp sve svei8mm svebf16 i8mm bf16 dgh rng", True),
    "no such file (macOS)": ("", False),
}


@pytest.mark.parametrize(("text", "wanted"), CPUS.values(), ids=CPUS)
def test_cpu_has_bf16(text, wanted):
    core = f"processor\t: 0\nmodel name\t: a bf16 avx512_bf16 in a name counts for nothing\n{text}\nbugs\t\t: bf16\n\n"
    assert cpu_has_bf16(text and core * 4) is wanted


def test_every_core_has_to_have_it():
    """A thread runs on any of them."""
    assert not cpu_has_bf16("Features\t: fp asimd bf16\n\nFeatures\t: fp asimd\n")


def test_agrees_with_torch_on_this_machine():
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    answers = [known[name] for name in ("avx512_bf16", "amx_bf16", "bf16") if name in known]
    if not answers:
        pytest.skip("this torch does not say what the processor can do")
    assert examine(torch.device("cpu")).bf16 is any(answers)


@pytest.mark.parametrize(
    ("capability", "rocm", "wanted"),
    [
        ((7, 0), False, False),
        ((7, 5), False, False),
        ((8, 0), False, True),
        ((8, 9), False, True),
        ((9, 0), False, True),
        ((12, 0), False, True),
        ((6, 1), True, True),
    ],
)
def test_gpu_has_bf16(capability, rocm, wanted):
    assert gpu_has_bf16(capability, rocm=rocm) is wanted


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        (OLD_CPU, "fp32 (this CPU has no bf16 instructions; bf16 would be several times slower)"),
        (NEW_CPU, "bf16 (this CPU computes in it)"),
        (H100, "bf16 (NVIDIA H100 80GB HBM3 computes in it)"),
        (T4, "fp32 (Tesla T4 does not compute in bf16 itself)"),
        (MPS, "fp32 (the device mps does not compute in bf16 itself)"),
    ],
)
def test_auto_is_what_the_machine_does_well(machine, wanted):
    assert str(settle("auto", machine)) == wanted


@pytest.mark.parametrize(
    ("asked", "machine", "slow"),
    [
        ("fp32", OLD_CPU, False),
        ("fp32", H100, False),
        ("bf16", OLD_CPU, True),
        ("bf16", NEW_CPU, False),
        ("bf16", T4, True),
        ("fp16", NEW_CPU, True),
        ("fp16", T4, False),
    ],
)
def test_what_is_asked_for_is_taken_and_a_slow_one_is_told(asked, machine, slow):
    settled = settle(asked, machine, earlier="fp32", since="as it began")
    assert settled.dtype == asked
    warning = f"; {machine.name} does not compute in it itself, so fp32 is faster here"
    assert settled.reason == "as asked" + warning * slow


def test_what_was_settled_earlier_is_kept_on_any_machine():
    assert str(settle("auto", H100, earlier="fp32", since="as this run began")) == "fp32 (as this run began)"
    kept = settle("auto", OLD_CPU, earlier="bf16", since="as this run began")
    assert kept.dtype == "bf16"
    assert kept.reason == "as this run began; this CPU does not compute in it itself, so fp32 is faster here"
    assert settle("auto", OLD_CPU, earlier="auto") == settle("auto", OLD_CPU)


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_leaves_it_to_the_machine(recipe):
    assert load_config(recipe).training.dtype == "auto"


def test_parts_of_one_precision_are_one_word():
    assert describe_parts({"transformer": "bf16", "vae": "bf16", "text_encoder": "bf16"}) == "bf16"
    parts = {"text_encoder": "fp32", "vae": "fp32", "transformer": "bf16"}
    assert describe_parts(parts) == describe_parts(dict(reversed(parts.items())))
