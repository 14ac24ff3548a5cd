"""The scores of one iteration: from all ranks' futures to one table, and that table in figures.

Shapes: R rewards, K prompts per iteration, G images of each. NaN is an image that could not be scored.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

import torch

from dgpo.advantage import dead_groups, spread
from dgpo.config import Config
from dgpo.parallel import Ranks
from dgpo.source import Drawn
from rewards.errors import DgpoError, SetupError
from rewards.pool import Scored
from rewards.score import Score
from rewards.spec import RewardSpec


def collect_scores(
    futures: Iterable[Future[Scored]],
    image_B: torch.Tensor,
    specs: Sequence[RewardSpec],
    ranks: Ranks,
    *,
    groups: int,
    group_size: int,
    unmade: Mapping[int, str] = MappingProxyType({}),
) -> tuple[torch.Tensor, list[str]]:
    """All ranks' scores [R, K, G] in the rewards' own units, and for each image that failed the reasons.

    `image_B` are the numbers of the images that `futures` score; those `unmade` could not be drawn, and are failed.

    Raises:
        SetupError: on every rank, when a reward on one of them said that no more can be scored, or is broken.
    """
    try:
        batches, problem = [future.result().scores for future in futures], None
    except DgpoError as error:
        batches, problem = [], str(error)
    problems = [problem for problem in ranks.gather([problem]) if problem is not None]
    if problems:
        raise SetupError(problems[0])
    judged = [scores for batch in batches for scores in zip(*(batch[spec.key] for spec in specs), strict=True)]
    mine = [(int(i), _numbers(scores), _reasons(specs, scores)) for i, scores in zip(image_B, judged, strict=True)]
    mine += [(image, [math.nan] * len(specs), reason) for image, reason in unmade.items()]
    parts = torch.full((len(specs), groups * group_size), torch.nan, dtype=torch.float64)
    failures = []
    for image, values, reasons in ranks.gather(mine):
        parts[:, image] = torch.tensor(values, dtype=torch.float64)
        failures += [reasons] if reasons else []
    return parts.view(-1, groups, group_size), failures


class CannotGoOn(Exception):
    """There are no scores to learn from; it says what went wrong, and how that is mended."""

    def __init__(self, sentence: str, mending: str) -> None:
        super().__init__(sentence)
        self.sentence, self.mending = sentence, mending


def collect_drawn(
    drawn: Drawn, config: Config, specs: Sequence[RewardSpec], ranks: Ranks, iteration: int
) -> tuple[torch.Tensor, list[str]]:
    """`collect_scores` of what was drawn in an iteration.

    Raises:
        CannotGoOn: on every rank, when no more can be scored, or more than `max_failed` scores are missing.
    """
    batch, sizes = drawn.batch, {"groups": config.groups, "group_size": config.group_size}
    numbers = batch.image_B[batch.drawn_B]
    try:
        parts_RKG, failures = collect_scores(drawn.scored, numbers, specs, ranks, unmade=batch.failed, **sizes)
    except SetupError as error:
        raise CannotGoOn(f"Iteration {iteration}: {error}", "mend the cause") from error
    if len(failures) > config.max_failed:
        raise CannotGoOn(
            f"{len(failures)} of {config.images} images could not be scored in iteration {iteration}, and max_failed "
            f"is {config.max_failed}. The first reason: {failures[0]}.",
            "mend the cause (or allow more with --max-failed)",
        )
    return parts_RKG, failures


def describe_scores(scores_KG: torch.Tensor, learned_KG: torch.Tensor) -> dict[str, Any]:
    """Mean, spread within groups, share of dead groups and count of failures."""
    return {
        "reward": scores_KG.nanmean().item(),
        "spread": spread(scores_KG).item(),
        "dead_groups": dead_groups(learned_KG).double().mean().item(),
        "failed": int(scores_KG.isnan().sum()),
    }


def describe_parts(keys: Sequence[str], parts_RKG: torch.Tensor) -> dict[str, dict[str, float]]:
    """Each reward's mean and spread within groups in its own unit; one that made no score is left out."""
    made = {key: part_KG for key, part_KG in zip(keys, parts_RKG, strict=True) if not part_KG.isnan().all()}
    return {
        "rewards": {key: part_KG.nanmean().item() for key, part_KG in made.items()},
        "spreads": {key: spread(part_KG).item() for key, part_KG in made.items()},
    }


def scoring_seconds(futures: Iterable[Future[Scored]]) -> dict[str, float]:
    """The seconds that an image took by each reward, in the process that scored it; the mean over batches on this rank.

    All of them are done.
    """
    batches = [future.result() for future in futures]
    counts = [len(next(iter(batch.scores.values()), [])) for batch in batches]
    total = sum(counts)
    keys = batches[0].seconds if total else {}
    return {
        key: sum(batch.seconds[key] * count for batch, count in zip(batches, counts, strict=True)) / total
        for key in keys
    }


def _numbers(scores: Sequence[Score]) -> list[float]:
    return [math.nan if score.value is None else score.value for score in scores]


def _reasons(specs: Sequence[RewardSpec], scores: Sequence[Score]) -> str:
    """Why an image is failed, reward by reward; nothing if it is not."""
    named = zip(specs, scores, strict=True)
    return "; ".join(f"{spec.key}: {score.reason}" for spec, score in named if not score.ok)
