"""Names of devices, and inference that nothing around it can make less precise."""

from typing import Any

import pytest
import torch

from rewards.errors import SetupError, UsageError
from rewards.networks.device import exactly, pick_device

CPU = torch.device("cpu")
BACKENDS: Any = torch.backends
PRODUCTS = (BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.mkldnn.matmul)


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture(params=["legacy", "present", "both", "loose"])
def rounding(request):
    """Each way of asking torch to round behind our back, undone afterwards."""
    before = [product.fp32_precision for product in PRODUCTS]
    if request.param in ("legacy", "both"):
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if request.param in ("present", "both"):
        for product in PRODUCTS[:2]:
            product.fp32_precision = "tf32"
    if request.param == "loose":
        torch.set_float32_matmul_precision("medium")
    yield
    if request.param == "loose":
        torch.set_float32_matmul_precision("highest")
    for product, precision in zip(PRODUCTS, before, strict=True):
        product.fp32_precision = precision


@pytest.mark.usefixtures("four_gpus")
def test_a_process_takes_its_own_gpu():
    for wanted, index in (("auto", 2), ("cuda", 2), ("cuda:0", 0), ("cuda:3", 3)):
        assert pick_device(wanted) == torch.device("cuda", index)
    assert pick_device("cpu") == CPU


@pytest.mark.usefixtures("four_gpus")
def test_more_processes_than_gpus_share_them(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert pick_device("auto") == torch.device("cuda", 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_and_a_gpu_is_missing():
    assert pick_device("auto") == CPU
    for wanted in ("cuda", "cuda:0"):
        with pytest.raises(SetupError, match=r"There is no cuda:0 here \(0 GPUs\)"):
            pick_device(wanted)


@pytest.mark.usefixtures("four_gpus")
def test_a_gpu_that_is_not_here_is_missing():
    with pytest.raises(SetupError, match="cuda:4"):
        pick_device("cuda:4")


@pytest.mark.parametrize("wanted", ["gpu", "meta", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "mps", ""])
def test_other_words_are_refused(wanted):
    with pytest.raises(UsageError, match="write auto, cpu, cuda or cuda:N"):
        pick_device(wanted)


def test_autocast_and_gradients_are_off_inside():
    layer = torch.nn.Linear(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(2)).dtype == torch.bfloat16
        with exactly(CPU):
            result = layer(torch.ones(2))
        assert layer(torch.ones(2)).dtype == torch.bfloat16
    assert result.dtype == torch.float32
    assert not result.requires_grad


@pytest.mark.usefixtures("rounding")
def test_fp32_is_fp32_inside_and_as_before_behind():
    before = [product.fp32_precision for product in PRODUCTS]
    assert before != ["ieee"] * 3
    with exactly(CPU):
        assert [product.fp32_precision for product in PRODUCTS] == ["ieee"] * 3
    assert [product.fp32_precision for product in PRODUCTS] == before


def test_an_error_inside_leaves_all_as_it_was():
    before = [product.fp32_precision for product in PRODUCTS]
    with pytest.raises(RuntimeError, match="out of memory"), exactly(CPU):
        raise RuntimeError("out of memory")
    assert [product.fp32_precision for product in PRODUCTS] == before
    assert not torch.is_inference_mode_enabled()
