"""How `dgpo train` measures held-out prompts: the harness of `dgpo eval`, with all ranks at work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.eval import evaluate_policy, tell_mean
from cli.peers import Peers
from rewards.errors import DgpoError

if TYPE_CHECKING:
    from benchmarks.suite import Suite
    from dgpo.config import Config
    from dgpo.parallel import Ranks
    from dgpo.policy import Policy
    from dgpo.reward_choice import RewardChoice
    from dgpo.run import Run
    from dgpo.session import Evaluation, MakeEvaluation
    from rewards.pool import ScoringPool


def make_evaluation(
    config: Config, rewards: RewardChoice, suite: Suite | None, tell: Callable[[str], None]
) -> MakeEvaluation | None:
    """What `session.train` takes; None for a run that is not evaluated."""
    if suite is None:
        return None
    settings = config.evaluation

    def make(run: Run, pool: ScoringPool, ranks: Ranks) -> Evaluation:
        from benchmarks.reading.image_statistics import measure_pictures
        from cli.provenance import provenance
        from dgpo.sample import evaluation_sampling
        from dgpo.session import Evaluation

        sampling = evaluation_sampling(config.sampling, settings)

        def folder_of(step: int) -> Path:
            return run.folder / "evaluations" / f"step-{step:06d}"

        def measure(step: int, policy: Policy) -> dict[str, Any]:
            tell(
                f"evaluating {min(settings.prompts, len(suite.prompts))} held-out prompts of {suite.name} "
                f"at step {step}"
            )
            peers = _peers(ranks, step)
            try:
                result = evaluate_policy(
                    policy,
                    sampling,
                    suite,
                    prompts=settings.prompts,
                    seeds=range(settings.seeds),
                    specs=rewards.measured,
                    pool=pool,
                    folder=folder_of(step),
                    run_name=f"{run.folder.name}@{step}",
                    trained_on=[spec.key for spec in rewards.trained],
                    record=provenance(sys.argv) if ranks.main else {},
                    peers=peers,
                )
            except DgpoError as error:
                if peers is not None:
                    peers.give_up(str(error))
                raise
            for key, value in result.items():
                tell(f"held out at step {step}: {key} {tell_mean(value)}")
            return result

        return Evaluation(measure, lambda step: measure_pictures(folder_of(step)))

    return make


def _peers(ranks: Ranks, step: int) -> Peers | None:
    """The ranks of a training as the processes of one evaluation."""
    if ranks.store is None:
        return None
    from torch.distributed import PrefixStore

    return Peers(ranks.rank, ranks.size, PrefixStore(f"evaluation/{step}", ranks.store))
