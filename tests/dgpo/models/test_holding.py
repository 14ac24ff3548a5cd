"""A network whose frozen weights are held in fewer bits, or wait in host memory."""

import sys
from typing import Any

import pytest
import torch

from dgpo.config import check_config, load_config
from dgpo.models.embeddings import Embeddings
from dgpo.models.flux import Flux
from dgpo.models.holding import BYTES, Holding, quantization_of
from dgpo.models.sd3 import SD3
from dgpo.models.waiting import away
from dgpo.policy import Policy
from dgpo.sections import Training
from rewards.errors import SetupError, UsageError
from tests.dgpo.models.tiny_folders import save_tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny("StableDiffusion3Pipeline", tmp_path_factory.mktemp("models") / "sd3")


def load(folder, quantize):
    if quantize != "none":
        pytest.importorskip("torchao")
    model = SD3.load(folder, dtype=torch.float32, device=CPU, text_length=24, holding=Holding(quantize))
    return Policy(model, Training(rank=4, alpha=4, dtype="fp32", quantize=quantize))


def ask(policy, who="current"):
    x, sigma = torch.linspace(-1, 1, 2 * 16 * 64).view(2, 16, 8, 8), torch.full((2,), 0.5)
    return policy.velocity(who, x, sigma, policy.model.encode(["a sign", "a"]), purpose="current")


def test_int8_learns_and_is_a_little_another_network(folder):
    whole, held = load(folder, "none"), load(folder, "int8")
    with torch.no_grad():
        difference = (ask(whole) - ask(held)).abs().max() / ask(whole).abs().max()
    assert 1e-4 < difference < 0.05
    held.keep("old")
    ask(held).square().mean().backward()
    assert all(parameter.grad is not None for parameter in held.parameters)
    with torch.no_grad():
        for parameter in held.parameters:
            parameter += 0.1
        assert not torch.equal(ask(held), ask(held, "old"))
        assert torch.equal(ask(held, "reference"), ask(load(folder, "int8")))
    assert held.published_weights("current").keys() == whole.published_weights("current").keys()
    assert held.precision == "text_encoder fp32, text_encoder_2 fp32, text_encoder_3 fp32, transformer fp32 of int8 " \
        "weights, vae fp32"  # fmt: skip


def test_int8_takes_what_is_planned_for(folder):
    layers = [one for one in load(folder, "int8").model.transformer.modules() if type(one) is torch.nn.Linear]
    frozen: list[Any] = [layer.weight for layer in layers if not layer.weight.requires_grad]
    held = sum(getattr(weight, name).nbytes for weight in frozen for name in weight.__tensor_flatten__()[0])
    scales = sum(weight.shape[0] for weight in frozen) * 5  # and zero points of rows, which are short here
    assert held == sum(weight.numel() for weight in frozen) * BYTES["int8"] + scales


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(SetupError, match=r"pip install 'dgpo\[quantize\]'"):
        quantization_of("int8", "transformer", dtype=torch.float32, device=CPU)


def test_nf4_is_for_a_gpu():
    pytest.importorskip("bitsandbytes")
    told = quantization_of("nf4", "transformer", dtype=torch.bfloat16, device=torch.device("cuda"))
    how = told["quantization_config"].quant_mapping["transformer"]
    assert (how.load_in_4bit, how.bnb_4bit_quant_type, how.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)
    with pytest.raises(SetupError, match="on a GPU alone"):
        quantization_of("nf4", "transformer", dtype=torch.bfloat16, device=CPU)


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({"method": "full", "quantize": "int8"}, "quantize is for weights that stay as they are, and method is full"),
        ({"method": "full", "offload": True}, "offload is for weights that stay as they are, and method is full"),
        ({"quantize": "nf4", "offload": True}, "give quantize or offload, not both"),
    ],
)
def test_what_cannot_be_held_so(training, reason):
    with pytest.raises(UsageError, match=reason):
        check_config({"training": training}, "this test")


def test_settings_that_do_not_go_together_are_named_by_who_gave_them():
    with pytest.raises(UsageError) as refused:
        load_config("tiny", sets=["training.method=full", "training.quantize=int8"])
    assert str(refused.value) == (
        "training: quantize is for weights that stay as they are, and method is full; take method=lora (by --set "
        "training.method=full and by --set training.quantize=int8)."
    )


def test_weights_are_away_and_come_back_even_after_an_error():
    layer = torch.nn.Linear(2, 2)
    host = layer.weight.data
    layer.weight.data = host.clone()  # as on a device
    device_data = layer.weight.data

    def fail():
        with away([(layer.weight, host)], CPU):
            assert layer.weight.data_ptr() == host.data_ptr()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert torch.equal(layer.weight, device_data)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="weights wait beside a GPU")
def test_the_network_is_away_while_texts_are_read(tmp_path):
    folder, gpu = save_tiny("FluxPipeline", tmp_path / "model"), torch.device("cuda")
    model = Flux.load(folder, dtype=torch.float32, device=gpu, text_length=24, holding=Holding(offload=True))
    model.embeddings = Embeddings(None)
    weight = next(model.transformer.parameters())
    with model.reading():
        assert weight.device.type == "cpu"
    assert weight.device.type == "cuda"
