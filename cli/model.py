"""What `--model` names, found and loaded: the embedded model, a folder, a hub id, or what a training run made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.options import DEFAULT_MODEL
from cli.run_origin import check_base, find_trained_on, finding_base
from cli.screen import say
from dgpo.contents import model_contents
from dgpo.models.find import HubId, expand, find_model
from dgpo.models.holding import WHOLE, Holding
from dgpo.models.libraries import hushed_loading
from rewards.errors import UsageError
from rewards.files import sha256

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from benchmarks.harness.images import Cell
    from dgpo.config import Config, Sampling
    from dgpo.policy import Policy
    from dgpo.precision import Settled, Wanted
    from rewards.prompt import Prompt

UNTRAINED = 0


@dataclass(frozen=True)
class Choice:
    """A model that was named but not loaded; `run` is the folder of the training run that made it, if one did.

    `base` is where --base says that the run's base model is now; `lora` is the file of a LoRA that is put on a model
    which no run made,
    and `holding` is how such a model's frozen weights are held.
    """

    name: str
    text: str
    run: Path | None = None
    step: int | None = None
    base: str | None = None
    lora: Path | None = None
    holding: Holding = WHOLE


@dataclass(frozen=True)
class LoadedModel:
    """A model that draws, with what a record of results has to say of it.

    `facts`, `sampler` and `precision` go into run.json; `trained_on` are the reward keys of its training, None without
    one. `make_images` gives one image a (prompt, seed), or the reason why there is none.
    """

    name: str
    facts: Mapping[str, Any]
    sampler: Mapping[str, Any]
    precision: Settled
    trained_on: tuple[str, ...] | None
    make_images: Callable[[Sequence[tuple[Prompt, int]]], Sequence[Image | str]]

    def draw(self, cells: Sequence[Cell]) -> Sequence[Image | str]:
        """One image a cell; its noise follows from the cell alone."""
        return self.make_images([(cell.prompt, cell.seed) for cell in cells])


def choose_model(
    text: str | None, base: str | None = None, lora: str | None = None, holding: Holding = WHOLE
) -> Choice:
    """Which model `text` names; without one the embedded model, which is said.

    RUN_DIR is a run's last sound checkpoint, RUN_DIR@STEP that of an iteration, RUN_DIR@0 the model it began with.
    Where there is no such folder, OWNER/NAME@7 is the revision 7 of a model of the hub.

    Args:
        base: where a run's base model is now.
        lora: put on the model; what `find_lora` takes.
        holding: of a model that no run made; runs keep their own.

    Raises:
        UsageError: a folder that holds no model, a run without that checkpoint, a `base` for what is no run, or a
            `lora` or `holding` for what is one.
    """
    choice = _choose(text)
    if holding != WHOLE:
        if choice.run is not None:
            raise UsageError(
                f"{choice.text} is a run, whose base model is held as in its training (training.quantize and "
                "training.offload); --quantize and --offload are for a base model."
            )
        choice = replace(choice, holding=holding)
    if lora is not None:
        from dgpo.models.lora import find_lora

        if choice.run is not None:
            raise UsageError(f"{choice.text} is a run, which has its own weights; --lora is for a base model.")
        file = find_lora(lora)
        choice = replace(choice, name=f"{choice.name}+{file.stem}", lora=file)
    if base is None:
        return choice
    if choice.run is None:
        raise UsageError(f"--base says where the base model of a run is, and {choice.text} is no run folder.")
    find_model(base)
    return replace(choice, base=base)


def _choose(text: str | None) -> Choice:
    if text is None:
        say(f"no --model was given, so this is the embedded model ({DEFAULT_MODEL})")
        text = DEFAULT_MODEL
    if text == DEFAULT_MODEL:
        if Path(text).exists():
            say(f"{text} is the embedded model; what has that name in this folder would be ./{text}")
        return Choice(text, text)
    folder, step = _split_step(text)
    if (folder / "config.yaml").is_file():
        return _choose_checkpoint(text, folder, step)
    if folder.is_dir() and step is not None:
        raise UsageError(f"{folder} is no run folder (it holds no config.yaml), so it has no step {step}.")
    if step is None and folder.is_dir() and not (folder / "model_index.json").is_file():
        raise UsageError(
            f"{text} holds no model: it is neither a folder of `dgpo train` (config.yaml) nor of diffusers"
            f" (model_index.json).{_hint_at_run(folder)}"
        )
    place = find_model(text)
    return Choice(place.resolve().name if isinstance(place, Path) else HubId.of(place).short, text)


def _hint_at_run(folder: Path) -> str:
    """How a checkpoint is named whose own folder was given."""
    from dgpo.checkpoint import checkpoints, step_of

    folder = folder.absolute()
    run = folder.parent.parent
    if folder not in checkpoints(folder.parent) or not (run / "config.yaml").is_file():
        return ""
    return f" A checkpoint is named by its run and its step: {run}@{step_of(folder)}."


def load_choice(
    choice: Choice, sampling: Mapping[str, Any] | None = None, dtype: Wanted = "auto", *, recorded: bool = True
) -> LoadedModel:
    """Load it on the best device; `sampling` changes settings of the sampler it is evaluated with.

    A base model is drawn from as its family is by default, in the precision that fits the machine; what a run made as
    that run was evaluated, in the precision it was trained in. `dtype` names another.

    Args:
        recorded: False for one of several processes whose main one checks and records what the model is made from.

    Raises:
        UsageError: among others, a run whose base model is not what it was trained on.
    """
    from dgpo.precision import examine, settle
    from dgpo.run import read_config

    machine = examine(pick_device())
    if choice.run is None:
        with hushed_loading():
            return _load_base(choice, sampling or {}, settle(dtype, machine), recorded=recorded)
    trained_in = read_config(choice.run).training.dtype
    settled = settle(dtype, machine, earlier=trained_in, since=f"as {choice.run} was trained")
    with hushed_loading():
        return _load_trained(choice, choice.run, sampling or {}, settled, recorded=recorded)


def describe_run_model(run: Path, base: str, step: int) -> dict[str, Any]:
    """Which run made a model and when; enough inside the run folder, whose results go when the run starts over."""
    return {"base": base, "run": str(run.resolve()), "step": step}


def _split_step(text: str) -> tuple[Path, int | None]:
    folder, at, step = text.rpartition("@")
    if at and not os.path.exists(expand(text)):
        if step.isdecimal():
            return expand(folder), int(step)
        if folder and os.path.isfile(expand(folder) / "config.yaml"):
            raise UsageError(f"{folder} is a run, and {folder}@STEP its checkpoint of a step, a number; got {text}.")
    return expand(text), None


def _choose_checkpoint(text: str, folder: Path, step: int | None) -> Choice:
    from dgpo.checkpoint import checkpoints, damage, step_of
    from dgpo.run import find_checkpoint

    name = folder.resolve().name
    if step == UNTRAINED:
        return Choice(f"{name}@{UNTRAINED}", text, folder, UNTRAINED)
    if step is None:
        for path in checkpoints(folder / "checkpoints"):
            problem = damage(path)
            if problem is None:
                found = step_of(path)
                return Choice(f"{name}@{found}", text, folder, found)
            say(f"{path} cannot be used ({problem}); taking the one before")
        raise UsageError(f"{folder} holds no checkpoint that can be used; give its `dgpo train` again to make one.")
    return Choice(f"{name}@{step}", text, folder, step_of(find_checkpoint(folder, step)))


def _load_base(choice: Choice, changes: Mapping[str, Any], settled: Settled, *, recorded: bool) -> LoadedModel:
    from dgpo.load import default_sampling, load_drawable, load_drawer
    from dgpo.models.lora import add_lora
    from dgpo.precision import held_in

    defaults = default_sampling(choice.text)
    if defaults is None:
        if choice.holding != WHOLE:
            raise UsageError(
                f"{choice.text} is of a family that is drawn from by its own program, whose network is not held "
                "otherwise here; leave --quantize and --offload out."
            )
        other = load_drawer(choice.text, changes, pick_device(), precision=settled.dtype)
        if choice.lora is not None:
            add_lora(other.pipeline, choice.lora)
        return LoadedModel(choice.name, _base_facts(choice, recorded), other.sampler, settled, None, other.draw)
    sampling = _changed(defaults, changes)
    settled = held_in(settled, choice.holding.quantize)
    policy = load_drawable(choice.text, sampling, pick_device(), precision=settled.dtype, holding=choice.holding)
    if choice.lora is not None:
        policy.model.add_lora(choice.lora)
    return _drawn_by(policy, sampling, choice.name, _base_facts(choice, recorded), settled, None)


def _base_facts(choice: Choice, recorded: bool) -> dict[str, Any]:
    place = find_model(choice.text)
    name = str(place.absolute()) if isinstance(place, Path) and choice.text != DEFAULT_MODEL else choice.text
    contents = model_contents(choice.text) if recorded else None
    if choice.lora is None:
        return {"base": name, "weights": contents}
    from dgpo.models.lora import lora_contents

    made = lora_contents(choice.lora) if recorded else None
    return {"base": name, "lora": str(choice.lora.absolute()), "lora_contents": made, "weights": f"{contents} {made}"}


def _load_trained(
    choice: Choice, run: Path, changes: Mapping[str, Any], settled: Settled, *, recorded: bool
) -> LoadedModel:
    from dgpo.checkpoint import MANIFEST
    from dgpo.load import check_drawable, load_policy, load_trained
    from dgpo.precision import held_in
    from dgpo.run import read_config
    from dgpo.sample import evaluation_sampling

    config, step = read_config(run).in_precision(settled.dtype), choice.step or UNTRAINED
    sampling = _changed(evaluation_sampling(config.sampling, config.evaluation), changes)
    settled = held_in(settled, config.training.quantize)
    with finding_base(run, config, choice.base) as base:
        check_drawable(base, sampling)
        if step == UNTRAINED:
            policy, weights = load_policy(base, config, pick_device()), None
        else:
            policy, _, checkpoint = load_trained(run, step, pick_device(), precision=settled.dtype, base=base)
            weights = f"manifest:{sha256(checkpoint / MANIFEST)}"
            if recorded:
                _tell_whose_weights(checkpoint, config)
    contents = check_base(run, base, choice.base) if recorded else None
    trained_on = find_trained_on(run, config) if recorded and step != UNTRAINED else None
    facts = {**describe_run_model(run, base, step), "base_contents": contents, "weights": weights or contents}
    return _drawn_by(policy, sampling, choice.name, facts, settled, trained_on)


def _tell_whose_weights(checkpoint: Path, config: Config) -> None:
    """A run that keeps an average publishes it once it has moved; before that, its trained weights as they are."""
    from dgpo.checkpoint import TRAINED, whose_weights

    if config.averages.evaluation_decay > 0 and whose_weights(checkpoint) == TRAINED:
        say(
            f"{checkpoint.name} holds the trained weights as they are: their average first moved at iteration "
            f"{config.averages.evaluation_every} (averages.evaluation_every)"
        )


def _drawn_by(
    policy: Policy,
    sampling: Sampling,
    name: str,
    facts: Mapping[str, Any],
    settled: Settled,
    trained_on: tuple[str, ...] | None,
) -> LoadedModel:
    """A model that our own sampler draws from."""
    from dgpo.sample import draw_images

    make_images = partial(draw_images, policy, sampling=sampling)
    return LoadedModel(name, facts, describe_sampler(policy, sampling), settled, trained_on, make_images)


def describe_sampler(policy: Policy, sampling: Sampling) -> dict[str, Any]:
    """How images come about besides the weights: two results are compared where it is the same."""
    height, width = policy.model.size(sampling.height, sampling.width)
    return {**sampling.model_dump(mode="json"), "height": height, "width": width, "dtype": policy.precision}


def _changed(sampling: Sampling, changes: Mapping[str, Any]) -> Sampling:
    """The sampler, changed as asked."""
    from dgpo.config import check_config

    return check_config({"sampling": {**sampling.model_dump(), **changes}}, source="--set").sampling


def pick_device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
