"""What a training will take, worked out without its numbers, is what it takes with them."""

import pytest
import torch

from dgpo.config import check_config
from dgpo.footprint import Allocations, Footprint
from dgpo.models.attention import training_attention
from dgpo.models.families import FAMILIES, family_of
from dgpo.models.outline import outline
from dgpo.models.pipeline_model import PipelineModel
from dgpo.models.pretrained import read_index, read_part
from dgpo.policy import Policy
from tests.dgpo.models.test_conformance import TEXT_LENGTH
from tests.dgpo.models.tiny_folders import save_tiny

CPU = torch.device("cpu")
TABLES = {"QwenImagePipeline": 2**19}
"""Of rotary positions, which a real network has made before it is asked."""


def small_config(name, **training):
    return check_config(
        {
            "rewards": ["imagestats.edges"], "groups": 2, "group_size": 4, "rollout": {"micro_batch": 3},
            "training": {"rank": 4, "alpha": 4, "dtype": "fp32", **training}, "optimizer": {"micro_batch": 4},
            "sampling": {"height": 128, "width": 192, "guidance": 3.5, "text_length": TEXT_LENGTH.get(name, 24)},
        },
        "this test",
    )  # fmt: skip


def find_family(folder):
    family = family_of(folder, read_index(folder))
    assert issubclass(family, PipelineModel)
    return family


def outlined(folder, config, *, ranks=2, gpu=False):
    read, length = (lambda file: read_part(folder, file)), config.sampling.text_length
    model = outline(find_family(folder), read, dtype=torch.float32, text_length=length)
    return Footprint(model, config, ranks=ranks, gpu=gpu)


EVERYDAY = ("FluxPipeline", "StableDiffusion3Pipeline")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERYDAY else pytest.mark.slow) for name in sorted(FAMILIES)]
)
def test_it_takes_what_was_worked_out(name, tmp_path):
    folder, config = save_tiny(name, tmp_path / "model"), small_config(name)
    worked_out = outlined(folder, config)
    length = config.sampling.text_length
    model = find_family(folder).load(folder, dtype=torch.float32, device=CPU, text_length=length)
    policy = Policy(model, config.training)
    held = [p for part in model.pipeline.components.values() if isinstance(part, torch.nn.Module)
            for p in (*part.parameters(), *part.buffers())]  # fmt: skip
    parts = ("network", "adapters", "autoencoder", "text encoders")
    assert sum(worked_out.held[part] for part in parts) == sum(tensor.nbytes for tensor in held)
    for parameter in policy.parameters:
        parameter.grad = torch.zeros_like(parameter)
    shape = model.latent_shape(config.sampling.height, config.sampling.width)

    def ask(images, guidance=None):
        x, sigma, rows = torch.zeros(images, *shape), torch.full((images,), 0.5), model.blank(images)
        return policy.velocity("current", x, sigma, rows, guidance=guidance, purpose="current")

    model.empty, taken = model.blank(1), {}
    with Allocations() as allocations, torch.no_grad(), policy.drawing_with("current", policy.merge("current")):
        ask(3, 3.5)
    taken["drawing"] = allocations.peak
    with Allocations() as allocations, torch.no_grad():
        model.to_pixels(torch.zeros(3, *shape))
    taken["decoding"] = allocations.peak
    with Allocations() as allocations, training_attention(CPU):
        ask(4).square().mean().backward()
    taken["learning"] = allocations.peak
    for stage, size in taken.items():
        difference = worked_out.stages[stage].size - size
        assert 0 <= difference <= TABLES.get(name, 0) + 100, (stage, size)
