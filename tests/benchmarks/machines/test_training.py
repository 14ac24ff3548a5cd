"""The clock by hand, and the trainer beside the plain loop: the same numbers, and a table that adds up."""

import re
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks.machines.peak import measure_peak, peak_of
from benchmarks.machines.random_models import make_random_model
from benchmarks.machines.stages import Copies, Stages, patched
from benchmarks.machines.training import MEAN, _parse, main, run
from rewards.errors import UsageError

CPU = torch.device("cpu")
SMALL = ("groups=2", "group_size=2", "sampling.steps=4", "dgpo.times=2", "dgpo.min_sigma=0.5", "training.rank=4",
         "optimizer.warm_up=0")  # fmt: skip


def measure(*words):
    sets = [word for setting in SMALL for word in ("--set", setting)]
    return run(_parse(["--workers", "0", "--rounds", "1", "--device", "cpu", *sets, *words]))


def test_every_moment_belongs_to_one_stage():
    stages = Stages(CPU)
    inner = stages.wrap("noise", lambda: time.sleep(0.01))

    def outer():
        time.sleep(0.01)
        inner()

    began = time.perf_counter()
    with stages.running():
        stages.wrap("drawing", outer)()
        time.sleep(0.01)
    passed = time.perf_counter() - began
    assert set(stages.wall) == {"noise", "drawing", "other"}
    assert sum(stages.wall.values()) == pytest.approx(passed, abs=1e-3)
    assert min(stages.wall.values()) >= 0.01


def test_operations_are_counted_in_the_stage_that_makes_them():
    """A product of 3 x 4 and 4 x 5 takes 2 * 3 * 4 * 5 operations; its backward for both factors twice as many."""
    stages, one, other = Stages(CPU), torch.ones(3, 4, requires_grad=True), torch.ones(4, 5, requires_grad=True)
    with stages.counting(), stages.running():
        with stages.stage("drawing"):
            product = one @ other
        with stages.stage("learning"):
            product.sum().backward()
    assert stages.flops["drawing"] == 120
    assert stages.flops["learning"] == 240


def test_copies_between_devices_are_counted():
    with Copies() as copies:
        torch.ones(4).to(torch.float64)
        assert copies.size == 0
        torch.empty(4, device="meta").copy_(torch.ones(4))
    assert copies.size == 16


def test_what_was_wrapped_is_put_back():
    owner = SimpleNamespace(work=len)

    class Kind:
        def work(self):
            return "own"

    made = Kind()
    with patched([(owner, "work", max), (made, "work", lambda: "other")]):
        assert (owner.work, made.work()) == (max, "other")
    assert (owner.work, made.work()) == (len, "own")
    assert vars(made) == {}


def test_a_cpus_peak_is_measured(monkeypatch):
    monkeypatch.setattr("benchmarks.machines.peak.SIDE", 64)
    assert measure_peak(CPU, torch.float32) > 0
    assert peak_of(CPU, torch.float32)[1] == "a large product, measured here"


@pytest.mark.parametrize("more", [(), ("--set", "dgpo.clip=0.01", "--set", "sampling.guidance=2.0")])
def test_the_plain_loop_comes_to_the_same_numbers(more, tmp_path):
    """To the last bit where adapters are not merged."""
    (tmp_path / "mean.py").write_text(MEAN)
    more = ("--reward", f"{tmp_path}/mean.py:Mean", *more)
    unmerged = ("--set", "rollout.merge=never")
    same = "gradients of the first iteration differ by 0.0e+00, latents of the last by 0.0e+00"
    assert same in measure("--against", "plain", "--set", "training.dtype=fp32", *unmerged, *more)
    told = measure("--against", "plain", "--set", "training.dtype=fp32", *more)
    gradients, latents = (float(found) for found in re.findall(r"by (\d\.\de[-+]\d+)", told))
    assert gradients < 1e-4
    assert latents < 1e-4
    rows = {cells[1]: cells for cells in (re.split(r" *\| *", line) for line in told.splitlines() if line[:1] == "|")}
    whole = float(rows["iteration"][2])
    parts = [float(row[2]) for name, row in rows.items() if name in ("drawing", "decoding", "scoring", "learning")]
    assert sum(parts) <= whole * 1.01
    assert rows["drawing"][8] != ""


@pytest.mark.slow
def test_random_networks_of_any_size_are_made_here():
    size = ("--height", "64", "--width", "64", "--set", "sampling.text_length=16", "--set", "training.dtype=bf16")
    told = measure("--model", "random:sd35-small", "--reward", "ocr", "--against", "plain", *size)
    assert "same numbers" in told


def test_a_random_model_is_named_right():
    with pytest.raises(UsageError, match=r'no model "random:sd35-medum".*sd35-medium'):
        make_random_model("sd35-medum", dtype=torch.float32, device=CPU, text_length=8)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--set", "training.method=full"), 2, "This measures DGPO"),
        (("--against", "plain", "--set", "dgpo.reference=old"), 2, "The plain loop compares with the base model"),
        (("--against", "plain", "--set", "optimizer.micro_batch=1"), 2, "learns from whole groups"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, code, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--device", "cpu", *words])
    assert ended.value.code == code
    assert said in capsys.readouterr().err
