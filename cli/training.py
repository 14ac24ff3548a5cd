"""One training on the screen: checked, with progress and Ctrl-C heard, and its outcome as an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cli.provenance import provenance
from cli.screen import say
from cli.threads import share_cores
from cli.training_checks import check_training
from cli.training_evaluation import make_evaluation
from cli.training_progress import TrainingProgress, ask_to_stop
from cli.training_prompts import find_evaluation_suite, find_training_prompts
from rewards.exits import DONE, GATE_FAILED, INTERRUPTED

if TYPE_CHECKING:
    from dgpo.config import Config
    from dgpo.reward_choice import RewardChoice

EXIT_CODES = {"finished": DONE, "interrupted": INTERRUPTED, "guarded": GATE_FAILED}


def run_training(config: Config, rewards: RewardChoice, folder: Path, trusted: Sequence[str], *, fresh: bool) -> int:
    """Train, with progress on the screen and Ctrl-C heard; returns the exit code."""
    from dgpo.parallel import Ranks
    from dgpo.session import open_pool
    from dgpo.session import train as train_in

    threads = share_cores(config.workers)
    training, suite = find_training_prompts(config, rewards), find_evaluation_suite(config)
    with ExitStack() as stack:
        pool = stack.enter_context(open_pool(config, rewards, measuring=suite is not None))
        check_training(config, rewards, pool, folder, training, suite, fresh=fresh)
        ranks = Ranks(on_note=say)
        if ranks.main:
            if trusted:
                say(f"--trust-run: {', '.join(trusted)} will be used, though only the recipe names it")
            pool.verify()
        progress = stack.enter_context(TrainingProgress(config, speaks=ranks.main))
        outcome = train_in(
            config,
            folder,
            prompts=training.prompts,
            sample_prompts=training.samples,
            rewards=rewards,
            evaluation=make_evaluation(config, rewards, suite, progress.say),
            hooks=[progress],
            pool=pool,
            facts={
                **provenance(sys.argv),
                "threads": threads,
                "prompts": dict(training.facts),
                "trusted": list(trusted),
            },
            on_step=progress.show,
            on_note=progress.say,
            stop_asked=ask_to_stop(progress.say),
            fresh=fresh,
            ranks=ranks,
        )
        progress.say(outcome.sentence)
    if ranks.main and outcome.kind == "finished":
        print(folder)
    return EXIT_CODES[outcome.kind]
