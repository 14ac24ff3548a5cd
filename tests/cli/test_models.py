"""`dgpo models convert`: a single file becomes a model that draws as the one it was made from."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from dgpo.models.find import TINY
from tests.cli.toys import dgpo
from tests.dgpo.models import original_layouts as original

SAMPLING = {"steps": 2, "height": 32, "width": 64, "guidance": 1.0, "sampler": "euler", "text_length": 0}


@pytest.fixture
def network(tmp_path, monkeypatch):
    """The embedded model's, in the original layout."""
    monkeypatch.chdir(tmp_path)
    (file,) = (TINY / "transformer").glob("*.safetensors")
    tensors = original.sd3(load_file(file), layers=5)
    save_file({name: value.contiguous() for name, value in tensors.items()}, "my model.safetensors")
    return tensors


def test_a_converted_file_draws_the_same(network, tmp_path):
    said = dgpo("models", "convert", "my model.safetensors", "--like", "tiny", "--output", "made")
    assert said.splitlines()[0] == "dgpo: from my model.safetensors: transformer"
    assert {f"dgpo: from tiny: {part}" for part in ("vae", "text_encoder", "tokenizer", "scheduler")} <= {
        *said.splitlines()
    }
    assert said.splitlines()[-1] == "made"
    sets = [word for name, value in SAMPLING.items() for word in ("--set", f"sampling.{name}={value}")]
    for model in ("tiny", "made"):
        words = ("--model", model, "--prompt", "a red sign", "--dtype", "fp32", "--output", f"{model}.png")
        dgpo("sample", *words, *sets)
    assert (tmp_path / "made.png").read_bytes() == (tmp_path / "tiny.png").read_bytes()


def test_a_part_that_diffusers_does_not_read_is_told(network):
    whole = {f"model.diffusion_model.{name}": value.contiguous() for name, value in network.items()}
    save_file({**whole, "text_encoders.other.weight": torch.ones(2)}, "all.safetensors")
    said = dgpo("models", "convert", "all.safetensors", "--like", "tiny", "--output", "made")
    assert "dgpo: all.safetensors holds text_encoders.other too, which diffusers does not read there" in said
