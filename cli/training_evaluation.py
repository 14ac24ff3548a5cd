"""How `dgpo train` measures held-out prompts: the harness of `dgpo eval`, with all ranks at work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.evaluation_result import tell_mean
from cli.model import describe_sampler
from cli.peers import Peers
from cli.provenance import provenance
from rewards.errors import DgpoError

if TYPE_CHECKING:
    from PIL.Image import Image

    from benchmarks.harness.images import Cell
    from benchmarks.suite import Suite
    from dgpo.config import Config
    from dgpo.parallel import Ranks
    from dgpo.policy import Policy, Who
    from dgpo.reward_choice import RewardChoice
    from dgpo.run import Run
    from dgpo.sections import Sampling
    from dgpo.session import Evaluation, MakeEvaluation
    from rewards.pool import ScoringPool
    from rewards.spec import RewardSpec


def make_evaluation(
    config: Config, rewards: RewardChoice, suite: Suite | None, tell: Callable[[str], None]
) -> MakeEvaluation | None:
    """What `session.train` takes; None for a run that is not evaluated."""
    if suite is None:
        return None
    settings = config.evaluation

    def make(run: Run, pool: ScoringPool, ranks: Ranks) -> Evaluation:
        from benchmarks.reading.image_statistics import measure_pictures
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


def evaluate_policy(
    policy: Policy,
    sampling: Sampling,
    suite: Suite,
    *,
    specs: Sequence[RewardSpec],
    pool: ScoringPool,
    folder: Path,
    run_name: str,
    trained_on: Sequence[str] | None,
    prompts: int | None = None,
    seeds: Sequence[int] = (0,),
    who: Who | None = None,
    model: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    peers: Peers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, float | int | None]]:
    """Measure a policy in memory, as training does every so often; writes a results folder like `dgpo eval`'s.

    Args:
        pool: an open pool made with `specs`.
        prompts: only the first so many of the suite.
        who: which of the policy's weights draw; without it those that a checkpoint would publish.
        model: facts that tell this model from others, see `cli.model.describe_run_model`; without them its name.
        record: what `provenance` returned when the command began; without it, it is found out now.
        peers: the processes that do this together; each of them calls this, and the main one gets the answer.

    Returns:
        For each reward's key its mean with the 95 % interval, None where nothing was scored, how many failed, and how
        many prompts made what kind of interval.
    """
    from benchmarks.harness.evaluate import evaluate as measure
    from benchmarks.harness.request import Request
    from benchmarks.suite import first_prompts
    from dgpo.sample import draw_images

    def draw(cells: Sequence[Cell]) -> list[Image | str]:
        return draw_images(policy, [(cell.prompt, cell.seed) for cell in cells], sampling, who=who or policy.published)

    request = Request(
        suite=first_prompts(suite, prompts),
        specs=specs,
        folder=folder,
        run_name=run_name,
        seeds=seeds,
        draw=draw,
        trained_on=trained_on,
        facts={
            **(record or provenance(sys.argv)),
            "model": dict(model or {"name": run_name}),
            "sampler": describe_sampler(policy, sampling),
        },
    )
    summary = measure(request, pool=pool, peers=peers, on_progress=on_progress)
    if summary is None:
        return {}
    names = ("mean", "ci_low", "ci_high", "failed", "prompts", "interval")
    return {row.reward: {name: getattr(row, name) for name in names} for row in summary.rows}


def _peers(ranks: Ranks, step: int) -> Peers | None:
    """The ranks of a training as the processes of one evaluation."""
    if ranks.store is None:
        return None
    from torch.distributed import PrefixStore

    return Peers(ranks.rank, ranks.size, PrefixStore(f"evaluation/{step}", ranks.store))
