"""`dgpo train --dry-run`: what would be done, and all that the training itself would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.screen import say
from cli.training_checks import check_training
from cli.training_prompts import (
    file_for_evaluation,
    file_for_training,
    files_to_fetch,
    find_evaluation_suite,
    find_training_prompts,
)

if TYPE_CHECKING:
    from dgpo.config import Config
    from dgpo.precision import Machine
    from dgpo.reward_choice import RewardChoice
    from rewards.pool import ScoringPool
    from rewards.prompt import Prompt


def describe_training(
    config: Config,
    rewards: RewardChoice,
    folder: Path,
    processes: int,
    gpu_gib: float | None,
    *,
    fresh: bool,
    measure: bool,
) -> None:
    """Settings, cost, geometry, then all that the training would refuse; nothing is written.

    Nothing is loaded or fetched either, but to `measure`.

    Args:
        gpu_gib: memory of the GPUs that are planned for; None plans for this machine.
        measure: time the model and say what the training will take.
    """
    from cli.model import pick_device
    from dgpo.load import find_cost
    from dgpo.plan import describe_geometry, describe_passes, planned_passes
    from dgpo.precision import AUTO, Machine, examine, settle
    from dgpo.run import Run
    from dgpo.session import open_pool
    from dgpo.settings import dump_settings
    from rewards.secrets import hide_secrets

    print(hide_secrets(dump_settings(config.model_dump(mode="json"))), end="")
    earlier = AUTO if fresh else Run(folder).precision
    machine = examine(pick_device()) if gpu_gib is None else Machine(f"a GPU of {gpu_gib:g} GiB", bf16=True)
    settled = settle(config.training.dtype, machine, earlier=earlier, since="as this run began")
    say(f"precision: {settled}")
    say(describe_geometry(config, processes))
    say(describe_passes(planned_passes(config, find_cost(config.model))))
    absent = files_to_fetch(config, rewards)
    training = None if file_for_training(config, rewards) in absent else find_training_prompts(config, rewards)
    suite = None if file_for_evaluation(config) in absent else find_evaluation_suite(config)
    one = config.model_copy(update={"workers": min(config.workers, 1)})  # to ask, one of them is enough
    with open_pool(config if measure else one, rewards, measuring=config.evaluation.on) as pool:
        check_training(config, rewards, pool, folder, training, suite, fresh=fresh)
        if measure:
            training = training or find_training_prompts(config, rewards)
            trained = pool.limited_to(rewards.trained)
            for sentence in _measure_cost(config.in_precision(settled.dtype), training.prompts, trained, processes):
                say(sentence)
    for sentence in _plan_memory(config.in_precision(settled.dtype), machine, processes, gpu_gib):
        say(sentence)
    for file in absent:
        say(f"would fetch {file.url}")
    on = training.describe() if training is not None else "the prompts fetched"
    say(f"would train in {folder} on {on}")


def _measure_cost(config: Config, prompts: Sequence[Prompt], pool: ScoringPool, processes: int) -> list[str]:
    from cli.model import pick_device
    from cli.threads import share_cores
    from dgpo.cost import describe_estimate, estimate, measure
    from dgpo.load import load_policy
    from dgpo.models.libraries import hushed_loading
    from dgpo.precision import examine

    threads = share_cores(config.workers)
    device = pick_device()
    with hushed_loading():
        policy = load_policy(config.model, config, device, trainable=True)
    say("timing a forward, a backward, a decoding and a scoring, for about 20 s")
    measured = measure(policy, config, prompts, pool, processes)
    found = estimate(measured, config, policy.model.passes, processes)
    name = examine(device).name if device.type == "cuda" else f"{threads} threads of this CPU"
    return describe_estimate(measured, found, config, name, processes)


def _plan_memory(config: Config, machine: Machine, processes: int, gpu_gib: float | None) -> list[str]:
    """What each process would take, in sentences; nothing is refused for what only the plan cannot do."""
    from dgpo.models.libraries import hushed_loading
    from dgpo.models.pretrained import FAULTS

    try:
        with hushed_loading():
            return _describe_memory(config, machine, processes, gpu_gib)
    except FAULTS as error:
        reason = next(iter(str(error).splitlines()), "no reason is given")
        return [f"memory: it cannot be told for {config.model} ({type(error).__name__}: {reason})"]


def _describe_memory(config: Config, machine: Machine, processes: int, gpu_gib: float | None) -> list[str]:
    """Of its GPU or, without any, of this machine, whose processes share it."""
    from cli.model import pick_device
    from dgpo.footprint import Footprint
    from dgpo.footprint_advice import GIB, describe_footprint
    from dgpo.load import load_outline
    from dgpo.memory import room_of
    from dgpo.precision import AUTO

    model = load_outline(config)
    if model is None:
        return [f"memory: it can be told once the small files (*.json) of {config.model} are on this machine"]
    device = pick_device()
    gpu = gpu_gib is not None or device.type == "cuda"
    footprint = Footprint(model, config, ranks=processes, gpu=gpu)
    room = int(gpu_gib * GIB) if gpu_gib is not None else room_of(device, processes)
    chosen = [footprint.settle_checkpointing(room)] if config.training.checkpointing == AUTO else []
    return [*chosen, *describe_footprint(footprint, room, machine.name, processes)]
