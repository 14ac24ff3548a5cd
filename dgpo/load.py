"""Find a model by its name: the embedded one, a local diffusers folder, or a hub id."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dgpo.algorithms.algorithm import find_algorithm
from dgpo.checkpoint import read_published
from dgpo.config import Config
from dgpo.models.families import family_of, is_trainable
from dgpo.models.find import EMBEDDED, find_model
from dgpo.models.folder import INDEX
from dgpo.models.holding import WHOLE, Holding
from dgpo.models.model import Model
from dgpo.models.pipeline import TextToImage
from dgpo.models.pretrained import is_here, read_index, read_part
from dgpo.models.tiny import defaults as tiny
from dgpo.plan import Cost
from dgpo.policy import Policy
from dgpo.precision import Precision, dtype_of, examine, settle
from dgpo.run import find_checkpoint, read_config
from dgpo.sections import Sampling, Training
from dgpo.windows import kind_of_noise
from rewards.errors import UsageError

if TYPE_CHECKING:
    from dgpo.models.pipeline_model import PipelineModel


def check_drawable(name: str, sampling: Sampling, *, fetch: bool = True) -> list[float]:
    """Whether a model of a family that can be trained draws with these settings; small config files are all it reads.

    Returns the times that it would visit, as sigma; none for what is left for later: another family, which `load_model`
    refuses, and without `fetch` a hub model whose configs are not on this machine.

    Raises:
        UsageError: a size that it cannot draw, or a scheduler of its own that the sampler cannot follow.
        SetupError: as `load_model` does.
    """
    place = find_model(name)
    family = _trainable_family(place, fetch=fetch)
    if family is None or not (fetch or all(is_here(place, file) for file in family.config_files)):
        return []
    return family.preview(lambda file: read_part(place, file), sampling)


def check_learnable(config: Config, *, fetch: bool = True) -> None:
    """UsageError where the config's algorithm cannot learn on its model, as its small files tell.

    Without `fetch` only those that are on this machine are asked.
    """
    place = find_model(config.model)
    family = _trainable_family(place, fetch=fetch)
    if family is None or not (fetch or all(is_here(place, file) for file in family.config_files)):
        return
    needs, name = find_algorithm(config.algorithm).needs(config.learning), config.algorithm
    if needs.errors and family.is_distilled(lambda file: read_part(place, file)):
        raise UsageError(
            f"{config.model} was distilled to a few steps, and {name} learns from how far a network is off at every "
            "time, which such a one no longer tells. Train the model that it was distilled from."
        )
    if not family.stochastic and kind_of_noise(config.rollout, needs) != "none":
        raise UsageError(
            f"{config.model} predicts noise on a path of its own, where rollouts with noise on the way (rollout.noise, "
            f"which {name} {'needs' if needs.sampler == 'sde' else 'was given'}) are not defined; choose another "
            "--algorithm, or leave it out."
        )
    if not family.stochastic and needs.own_times:
        raise UsageError(
            f"{config.model} has no time at pure noise, up to which {name} trains with "
            "diffusion_dpo.choice=logit-normal; give diffusion_dpo.choice=table."
        )
    if needs.guided and family.passes(2.0) == 1:
        raise UsageError(
            f"The network of {config.model} takes its guidance as an input, so that there is no unguided prediction to "
            "compare a guided one with; leave dgpo.reference_guidance at 1."
        )


def load_outline(config: Config) -> "PipelineModel | None":
    """The config's model without its numbers, of its small files alone; nothing is fetched.

    None where they are not all on this machine, or the family has no pipeline of diffusers.
    """
    place = find_model(config.model)
    family = _trainable_family(place, fetch=False)
    if family is None:
        return None
    from dgpo.models.outline import outline, part_files
    from dgpo.models.pipeline_model import PipelineModel

    def read(file: str) -> dict[str, Any]:
        return read_part(place, file)

    if not issubclass(family, PipelineModel) or not all(is_here(place, file) for file in part_files(family, read)):
        return None
    dtype, text_length = dtype_of(weights_dtype(config.training)), config.sampling.text_length
    return outline(family, read, dtype=dtype, text_length=text_length)


def find_recipes(name: str) -> str | None:
    """What the names of the recipes for a model begin with; None where its family is not known on this machine."""
    family = _trainable_family(find_model(name), fetch=False)
    return None if family is None else family.recipes


def find_cost(name: str) -> Cost:
    """What a velocity of the named model will cost; nothing is fetched, and one that is not here costs as most do."""
    return (_trainable_family(find_model(name), fetch=False) or Model).passes


def _trainable_family(place: Path | str, *, fetch: bool = True) -> type[Model] | None:
    """None for a model that can only be drawn from and, without `fetch`, one whose index is not on this machine."""
    if not fetch and not is_here(place, INDEX):
        return None
    index = read_index(place)
    return family_of(place, index) if is_trainable(index) else None


def load_model(name: str, *, dtype: str, device: torch.device, text_length: int, holding: Holding = WHOLE) -> Model:
    """The named model, frozen, on `device`.

    Raises:
        UsageError: the name is neither `tiny`, nor a folder with a `model_index.json`, nor of the form
            OWNER/NAME[@REVISION], or it is a model of another family.
        SetupError: its files are damaged or not all there; or the hub cannot be reached, refuses, or has no such model
            or revision.
    """
    place = find_model(name)
    family = family_of(place, read_index(place))
    more = {} if holding == WHOLE else {"holding": holding}
    return family.load(place, dtype=dtype_of(dtype), device=device, text_length=text_length, **more)


def default_sampling(name: str) -> Sampling | None:
    """How the named model is drawn from where nobody says otherwise; None for one that can only be drawn from."""
    if name == EMBEDDED:
        return tiny.SAMPLING
    place = find_model(name)
    family = _trainable_family(place)
    return None if family is None else family.default_sampling(lambda file: read_part(place, file))


def load_drawer(name: str, settings: Mapping[str, Any], device: torch.device, *, precision: Precision) -> TextToImage:
    """A model that can only be drawn from, by its own pipeline.

    Raises:
        UsageError, SetupError: as `load_model` does; or the model does not know one of the sampler's `settings`.
    """
    return TextToImage.from_folder(find_model(name), settings, dtype=dtype_of(precision), device=device)


def load_drawable(
    name: str, sampling: Sampling, device: torch.device, *, precision: Precision, holding: Holding = WHOLE
) -> Policy:
    """A model of a family that can be trained, as it is, ready to draw."""
    check_drawable(name, sampling)
    model = load_model(name, dtype=precision, device=device, text_length=sampling.text_length, holding=holding)
    model.scale = sampling.guidance
    return Policy(model, Training(dtype=precision, quantize=holding.quantize), trainable=False)


def load_policy(name: str, config: Config, device: torch.device, *, trainable: bool = False) -> Policy:
    """A model ready to draw, or to train, in `config`'s precision; `auto` is settled for the device."""
    training = config.in_precision(settle(config.training.dtype, examine(device)).dtype).training
    dtype = weights_dtype(training)
    check_drawable(name, config.sampling)
    holding = Holding(training.quantize, training.offload)
    model = load_model(name, dtype=dtype, device=device, text_length=config.sampling.text_length, holding=holding)
    model.scale = config.sampling.guidance
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
    policy.load_published(read_published(checkpoint, config.training.method, policy.model.network))
    return policy, config, checkpoint


def weights_dtype(training: Training) -> str:
    """Full fine-tuning holds its weights in fp32; frozen weights are held in the precision they are used in."""
    return "fp32" if training.method == "full" else training.dtype
