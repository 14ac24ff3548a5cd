"""A network that takes the guidance as an input learns at the guidance of its rollouts."""

import pytest
import torch

from dgpo.models.conformance import Subject
from tests.dgpo.models.test_conformance import TEXT_LENGTH
from tests.dgpo.models.tiny_folders import save_tiny


@pytest.mark.parametrize("name", ["FluxPipeline", "Flux2Pipeline"])
def test_in_learning_it_is_told_the_guidance_of_its_rollouts(name, tmp_path):
    model = Subject.of(save_tiny(name, tmp_path / "model"), TEXT_LENGTH.get(name, 24)).model
    x, sigma, rows = torch.ones(1, *model.latent_shape(64, 64)), torch.full((1,), 0.5), model.encode(["a sign"])
    model.scale = 3.5
    with torch.no_grad():
        learning, drawing, other = (model.velocity(x, sigma, rows, guidance=scale) for scale in (None, 3.5, 1.0))
    assert torch.equal(learning, drawing)
    assert not torch.equal(learning, other)
    assert {type(model).passes(scale) for scale in (None, 1.0, 3.5)} == {1}
