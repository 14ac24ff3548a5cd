"""The table of times that a sampler visits, from a model's own scheduler settings.

The solver is ours to choose (`sampling.sampler`); how the times lie is the model's, as its scheduler's config says.
Each setting that moves them is honoured as diffusers does, or refused by name; none is ignored.
"""

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch

from rewards.errors import UsageError

SamplerName = Literal["euler", "dpm++", "dpm2"]

EULER = "FlowMatchEulerDiscreteScheduler"
# Schedulers that can hold the times of a rectified flow, and the name by which each knows its shift.
SHIFTS = {
    EULER: "shift",
    "FlowMatchHeunDiscreteScheduler": "shift",
    "DPMSolverMultistepScheduler": "flow_shift",
    "UniPCMultistepScheduler": "flow_shift",
}
# Settings with the value at which they do nothing: those that no deterministic way from noise to image can follow,
# and those that dpm++, which has a table of its own, cannot.
NO_PATH = {"stochastic_sampling": False, "invert_sigmas": False, "thresholding": False, "final_sigmas_type": "zero"}
NO_SHIFT = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "shift_terminal": None,
}
CONFIG = "scheduler/scheduler_config.json"


@dataclass(frozen=True)
class Schedule:
    """The times that a sampler visits; every time is a noise level in (0, 1], 1 being noise."""

    times: list[float]
    """At which the network is asked, first to last."""
    solver: Any
    """The diffusers scheduler that holds the solver's own sigmas and, for some samplers, its step formulas."""


class DynamicShift(Protocol):
    """How a family shifts times by the size of the image, where its scheduler says so (`use_dynamic_shifting`)."""

    reads: ClassVar[Mapping[str, float]]
    """The settings that it reads of any scheduler's config, and what stands for those that are left out."""

    def mu(self, config: Mapping[str, Any]) -> float:
        """What diffusers' schedulers take as mu; `config` is the scheduler's, with its class's defaults."""
        ...


def build_schedule(
    sampler: SamplerName,
    config: Mapping[str, Any],
    steps: int,
    *,
    dynamic_shift: DynamicShift | None = None,
    sigmas: Sequence[float] | None = None,
) -> Schedule:
    """The model's own times for `steps` deterministic steps.

    `euler` and `dpm2` visit the times of the model's scheduler itself, `dpm++` (DPM-Solver++ 2M on flow sigmas) those
    of its shift. The times are read back from the scheduler: schedulers round and shift in their own ways.

    Args:
        config: of the model's scheduler, with its `_class_name`.
        dynamic_shift: the family's own, for an image of this size; without one no scheduler that wants it is followed.
        sigmas: what the family's pipeline gives the scheduler to shift, where it does not leave that to it.

    Raises:
        UsageError: a scheduler that is no rectified flow's, or a setting of it that this sampler cannot follow.
    """
    from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    idle = NO_PATH if sampler != "dpm++" else NO_PATH | NO_SHIFT
    if dynamic_shift is None:
        own, mu = _own_scheduler(config, idle | {"use_dynamic_shifting": False}, sampler), None
    else:
        own = _own_scheduler(config, idle, sampler, also_known=dynamic_shift.reads)
        mu = dynamic_shift.mu(own.config) if own.config.get("use_dynamic_shifting") else None
    if sampler != "dpm++":
        scheduler = FlowMatchEulerDiscreteScheduler(own.config.num_train_timesteps)
        scheduler.set_timesteps(sigmas=_own_sigmas(own, steps, mu, sigmas))
    else:
        scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=own.config.num_train_timesteps,
            algorithm_type="dpmsolver++",
            solver_order=2,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=_shift(own, mu),
        )
        scheduler.set_timesteps(steps)
    assert isinstance(scheduler.sigmas, torch.Tensor)
    assert scheduler.timesteps is not None
    _refuse_no_flow(scheduler.sigmas[:-1], own)
    last = scheduler.config["num_train_timesteps"]
    return Schedule([float(time) / last for time in scheduler.timesteps], scheduler)


def _own_scheduler(
    config: Mapping[str, Any], idle: Mapping[str, Any], sampler: str, *, also_known: Collection[str] = ()
):
    """The model's scheduler as diffusers builds it; `idle` are settings that have to be at the value given there."""
    import diffusers

    name = config.get("_class_name", EULER)
    if name not in SHIFTS:
        raise UsageError(
            f"The model's scheduler is a {name}, whose times cannot be followed; those of {', '.join(SHIFTS)} can. "
            f"Put one of them into {CONFIG} and model_index.json."
        )
    family = getattr(diffusers, name)
    known = {*inspect.signature(family.__init__).parameters, *also_known}
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    refused = [key for key in given if (key not in known and given[key]) or given[key] != idle.get(key, given[key])]
    if refused:
        others = " sampling.sampler=euler can." if set(refused) <= set(NO_SHIFT) else ""
        raise UsageError(
            f"The model's {name} sets {', '.join(f'{key} to {given[key]}' for key in refused)}, which the sampler "
            f"{sampler} cannot follow.{others or f' Mend it in {CONFIG} to draw without.'}"
        )
    if SHIFTS[name] == "flow_shift" and (given.get("prediction_type"), given.get("use_flow_sigmas")) != (
        "flow_prediction",
        True,
    ):
        raise UsageError(
            f"The model's {name} is not set for a rectified flow: that takes prediction_type flow_prediction and "
            f"use_flow_sigmas true in {CONFIG}."
        )
    try:
        return family.from_config(given)
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"The model's {name} cannot be built as {CONFIG} says: {error}") from None


def _own_sigmas(own, steps: int, mu: float | None, given: Sequence[float] | None) -> list[float]:
    """The table of the model's scheduler, without the 0 at its end; solvers of two stages have each time twice."""
    shift = {} if mu is None else {"mu": mu}
    if given is not None and type(own).__name__ == EULER:  # the others take none
        own.set_timesteps(sigmas=list(given), **shift)
    else:
        own.set_timesteps(steps, **shift)
    return torch.unique_consecutive(own.sigmas)[:-1].tolist()


def _refuse_no_flow(sigmas: torch.Tensor, own) -> None:
    if not ((sigmas > 0) & (sigmas <= 1)).all():
        raise UsageError(
            f"The model's {type(own).__name__} has times from {sigmas.max():.3g} to {sigmas.min():.3g}, which are no "
            f"times of a rectified flow (1 is noise, 0 the image). Mend {CONFIG}."
        )


def _shift(own, mu: float | None) -> float:
    """s of s t / (1 + (s - 1) t), which both kinds of dynamic shift are for one image size."""
    if mu is None:
        return own.config[SHIFTS[type(own).__name__]]
    return mu if own.config.time_shift_type == "linear" else math.exp(mu)
