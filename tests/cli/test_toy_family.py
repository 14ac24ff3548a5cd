"""The model seam holds: a family of points in the plane, written here, trains and is drawn through the real program."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from dgpo.compare_runs import compare_runs
from dgpo.models.families import FAMILIES
from dgpo.models.model import Conditioning, Model
from dgpo.paths import RectifiedFlow
from dgpo.schedule import build_schedule
from dgpo.sections import Sampling
from tests.cli.toys import SETTINGS, dgpo, metrics, prepare, train

TIMES = {"num_train_timesteps": 1000, "shift": 1.0}


class Net(ModelMixin, ConfigMixin, PeftAdapterMixin):
    @register_to_config
    def __init__(self, width: int = 16):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(4, width), torch.nn.Linear(width, 2)

    def forward(self, x, sigma, length):
        return self.outer(torch.tanh(self.inner(torch.cat([x, sigma[:, None], length], dim=1))))


@dataclass(frozen=True)
class Length(Conditioning):
    length_N1: torch.Tensor


class Points(Model):
    path, defaults, lora_targets = RectifiedFlow(), Sampling(sampler="euler", steps=3, guidance=1.0), ("inner", "outer")

    def __init__(self):
        torch.manual_seed(3)
        self.transformer = Net().requires_grad_(False)

    @property
    def device(self):
        return torch.device("cpu")

    @property
    def precisions(self):
        return {"transformer": "fp32"}

    @classmethod
    def load(cls, place, *, dtype, device, text_length):
        return cls()

    @classmethod
    def preview(cls, read, sampling):
        return build_schedule(sampling.sampler, TIMES, sampling.steps).times

    @classmethod
    def passes(cls, guidance):
        return 1  # whatever the guidance, which it does not look at

    def latent_shape(self, height, width):
        return (2, 1, 1)

    def size(self, height, width):
        return (8, 8)

    def encode(self, texts, soon=()):
        return Length(torch.tensor([[len(text) / 10] for text in texts]))

    def schedule(self, sampling, shape):
        return build_schedule(sampling.sampler, TIMES, sampling.steps)

    def velocity(self, x_BCHW, sigma_B, conditioning, *, guidance=None, weights=None):
        inputs = (x_BCHW.flatten(1), sigma_B, conditioning.length_N1)
        velocity = functional_call(self.transformer, dict(weights or {}), inputs)
        return velocity.view_as(x_BCHW).float()

    def decode(self, latents_BCHW):
        greys = (255 * torch.sigmoid(latents_BCHW.mean(dim=(1, 2, 3)))).round().byte().tolist()
        return [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in greys]

    def encode_images(self, images):
        greys = [float(np.asarray(image).mean()) / 255 for image in images]
        return torch.logit(torch.tensor(greys).clamp(0.01, 0.99))[:, None, None, None].expand(-1, 2, 1, 1)

    def save_lora(self, folder, weights, metadata):
        save_file(
            {f"transformer.{name}": tensor for name, tensor in weights.items()},
            folder / "pytorch_lora_weights.safetensors",
            metadata={},
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "PointsPipeline", Points)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_index.json").write_text(json.dumps({"_class_name": "PointsPipeline"}))
    return tmp_path


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_trains_goes_on_and_is_evaluated(folder, method):
    settings = {"training": {"method": method, "rank": 2, "alpha": 4, "dtype": "fp32"}, "dgpo": {"min_sigma": 0.2}}
    sampling = {**SETTINGS["sampling"], "guidance": 3.0}
    prepare(folder, "./model", {**settings, "sampling": sampling, "optimizer": {"learning_rate": 0.01}})
    assert "rollout 4," in train("run", "--steps", "6", "--dry-run")
    assert "rollout 4," in train("run", "--steps", "6")
    train("again", "--steps", "3")
    train("again", "--steps", "6")
    assert [one for one in compare_runs(folder / "run", folder / "again") if one.step == 6] == []
    assert all(line["passes"]["rollout"] == 4 for line in metrics(folder / "run"))
    rewards = [line["reward"] for line in metrics(folder / "run")]
    assert len(set(rewards)) == 6
    for name, model in (("base", "./model"), ("trained", "run")):
        dgpo(
            "eval",
            "--suite",
            "prompts.txt",
            "--model",
            model,
            "--reward",
            "bright.py:Bright",
            "--workers",
            "0",
            "--output",
            name,
        )
    base, trained = (json.loads((folder / name / "run.json").read_text()) for name in ("base", "trained"))
    assert (base["sampler"]["steps"], trained["sampler"]["steps"]) == (3, 4)
    assert (folder / "base/scores.csv").read_text() != (folder / "trained/scores.csv").read_text()
    if method == "lora":
        weights = load_file(folder / "run/checkpoints/step-000006/pytorch_lora_weights.safetensors")
        assert {name.split(".")[1] for name in weights} == {"inner", "outer"}
