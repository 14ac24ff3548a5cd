"""Full-size networks with random weights, made where they will compute, without a hub: `random:NAME`.

Text encoders are left out, and random embeddings of the right shape stand for what they would say; speed does not
depend on the numbers.
"""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.machines.published_layouts import MODELS, Part, index_of, stable_diffusion_3
from dgpo.models.families import family_of
from dgpo.models.folder import INDEX
from dgpo.models.model import Model
from dgpo.models.outline import outline
from dgpo.models.pipeline_model import PipelineModel
from rewards.errors import UsageError, suggestion

PREFIX = "random:"
SD3, FLUX = "StableDiffusion3Pipeline", "FluxPipeline"
RANDOM_MODELS: dict[str, tuple[str, dict[str, Part]]] = {
    "sd35-medium": (SD3, MODELS[SD3]),
    "sd35-large": (SD3, stable_diffusion_3(38, 0)),
    "flux1-dev": (FLUX, MODELS[FLUX]),
    "sd35-small": (SD3, stable_diffusion_3(2, 1)),  # of no published size, for trying things out
}


def make_random_model(name: str, *, dtype: torch.dtype, device: torch.device, text_length: int) -> Model:
    """A model by its name after `random:`.

    Raises:
        UsageError: there is no such one.
    """
    if name not in RANDOM_MODELS:
        raise UsageError(f'There is no model "{PREFIX}{name}".{suggestion(name, RANDOM_MODELS)}')
    kind, parts = RANDOM_MODELS[name]
    files: dict[str, dict[str, Any]] = {INDEX: index_of(kind, parts)}
    for part, (_, made, config) in parts.items():
        file = "scheduler_config.json" if part == "scheduler" else "config.json"
        files[f"{part}/{file}"] = {"_class_name": made, **config}
    family = family_of(name, files[INDEX])
    assert issubclass(family, PipelineModel)
    model = outline(family, files.__getitem__, dtype=dtype, text_length=text_length)
    for network in (model.transformer, model.pipeline.vae):
        fill(network, device)
    model._device = device
    given: Any = model
    given.encode = lambda texts, soon=(): embed(model, texts)
    given.encode_text = lambda text: embed(model, [text])
    model.empty = embed(model, [""])
    return model


def embed(model: PipelineModel, texts: Sequence[str]) -> Any:
    """The same random rows for the same texts."""
    rows = []
    for text in texts:
        generator = torch.Generator().manual_seed(len(text))
        blank = model.blank(1)
        numbers = {
            name: torch.randn(tensor.shape, generator=generator).to(model.device, tensor.dtype)
            if tensor.is_floating_point()
            else torch.ones_like(tensor, device=model.device)
            for name, tensor in blank.tensors().items()
        }
        rows.append(type(blank).from_tensors(numbers))
    return type(rows[0]).join(rows)


@torch.no_grad()
def fill(network: torch.nn.Module, device: torch.device) -> None:
    """Random weights that keep the scale of what goes through them, in place of none; norms have their ones."""
    tables = {name for name, _ in network.named_buffers()}
    network.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith("weight") and tensor.dim() == 1:
            tensor.fill_(1.0)
        elif name in tables or tensor.dim() > 1:
            tensor.normal_(0.0, (tensor.numel() / len(tensor)) ** -0.5, generator=generator)
        else:
            tensor.zero_()
