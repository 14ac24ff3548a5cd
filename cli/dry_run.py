"""`dgpo train --dry-run`: what would be done, and all that the training itself would refuse."""

from __future__ import annotations

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
    from dgpo.reward_choice import RewardChoice


def describe_training(config: Config, rewards: RewardChoice, folder: Path, processes: int, *, fresh: bool) -> None:
    """Settings, cost, geometry, then all that the training would refuse; nothing is loaded, fetched or written."""
    from cli.model import pick_device
    from dgpo.load import find_cost
    from dgpo.plan import describe_geometry, describe_passes, planned_passes
    from dgpo.precision import AUTO, examine, settle
    from dgpo.run import Run
    from dgpo.session import open_pool
    from dgpo.settings import dump_settings
    from rewards.secrets import hide_secrets

    print(hide_secrets(dump_settings(config.model_dump(mode="json"))), end="")
    earlier = AUTO if fresh else Run(folder).precision
    settled = settle(config.training.dtype, examine(pick_device()), earlier=earlier, since="as this run began")
    say(f"precision: {settled}")
    say(describe_geometry(config, processes))
    say(describe_passes(planned_passes(config, find_cost(config.model))))
    absent = files_to_fetch(config, rewards)
    training = None if file_for_training(config, rewards) in absent else find_training_prompts(config, rewards)
    suite = None if file_for_evaluation(config) in absent else find_evaluation_suite(config)
    one = config.model_copy(update={"workers": min(config.workers, 1)})  # to ask, one of them is enough
    with open_pool(one, rewards, measuring=config.evaluation.on) as pool:
        check_training(config, rewards, pool, folder, training, suite, fresh=fresh)
    for file in absent:
        say(f"would fetch {file.url}")
    on = training.describe() if training is not None else "the prompts fetched"
    say(f"would train in {folder} on {on}")
