"""Find a model by its name: the embedded one, a local diffusers folder, or a hub id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dgpo.checkpoint import read_published
from dgpo.config import Config, Sampling, Training
from dgpo.models.canvas import Canvas
from dgpo.models.find import find_model
from dgpo.models.folder import INDEX
from dgpo.models.pipeline import TextToImage
from dgpo.models.pretrained import DTYPES, is_here, read_index, read_part
from dgpo.models.sd3 import SD3
from dgpo.policy import Policy
from dgpo.precision import Precision, examine, settle
from dgpo.run import find_checkpoint, read_config
from dgpo.schedule import build_scheduler, sampled_times

PARTS = ("transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json")


def check_drawable(name: str, sampling: Sampling, *, fetch: bool = True) -> list[float]:
    """Whether a model of the family that can be trained draws with these settings; small config files are all it reads.

    Returns the times that it would visit, as sigma; none for what is left for later: another family, which `load_model`
    refuses, and without `fetch` a hub model whose configs are not on this machine.

    Raises:
        UsageError: a size that it cannot draw, or a scheduler of its own that the sampler cannot follow.
        SetupError: as `load_model` does.
    """
    place = find_model(name)
    if not fetch and not all(is_here(place, file) for file in (INDEX, *PARTS)):
        return []
    if read_index(place).get("_class_name") != SD3.FAMILY:
        return []
    transformer, autoencoder, scheduler = (read_part(place, file) for file in PARTS)
    canvas = Canvas.of(transformer, autoencoder)
    tokens = canvas.tokens(canvas.latent_shape(sampling.height, sampling.width))
    return sampled_times(build_scheduler(sampling.sampler, scheduler, sampling.steps, tokens=tokens))


def load_model(name: str, *, dtype: str, device: torch.device, text_length: int) -> SD3:
    """The named model, frozen, on `device`.

    Raises:
        UsageError: the name is neither `tiny`, nor a folder with a `model_index.json`, nor of the form OWNER/NAME, or
            it is a model of another family.
        SetupError: its files are damaged or not all there; or the hub cannot be reached, refuses, or has no such model.
    """
    return SD3.from_folder(find_model(name), dtype=DTYPES[dtype], device=device, text_length=text_length)


def load_drawer(
    name: str, settings: Mapping[str, Any], device: torch.device, *, precision: Precision
) -> TextToImage | None:
    """A model of another family, which can only be drawn from; None for one of the family that `load_model` loads.

    Raises:
        UsageError, SetupError: as `load_model` does; or the model does not know one of the sampler's `settings`.
    """
    place = find_model(name)
    if read_index(place).get("_class_name") == SD3.FAMILY:
        return None
    return TextToImage.from_folder(place, settings, dtype=DTYPES[precision], device=device)


def load_policy(name: str, config: Config, device: torch.device, *, trainable: bool = False) -> Policy:
    """A model ready to draw, or to train, in `config`'s precision; `auto` is settled for the device."""
    training = config.in_precision(settle(config.training.dtype, examine(device)).dtype).training
    dtype = weights_dtype(training)
    check_drawable(name, config.sampling)
    model = load_model(name, dtype=dtype, device=device, text_length=config.sampling.text_length)
    return Policy(model, training, seed=config.seed, trainable=trainable)


def load_trained(
    folder: Path,
    step: int | None,
    device: torch.device,
    *,
    precision: Precision | None = None,
    base: str | None = None,
) -> tuple[Policy, Config, Path]:
    """What a run published at `step` (or last): its base model with the LoRA, or with the trained transformer.

    In the run's own precision and on the base that its config names, unless others are given.
    """
    config, checkpoint = read_config(folder), find_checkpoint(folder, step)
    config = config if precision is None else config.in_precision(precision)
    policy = load_policy(base or config.model, config, device, trainable=True)
    policy.load_published(read_published(checkpoint, config.training.method))
    return policy, config, checkpoint


def weights_dtype(training: Training) -> str:
    """Full fine-tuning holds its weights in fp32; frozen weights are held in the precision they are used in."""
    return "fp32" if training.method == "full" else training.dtype
