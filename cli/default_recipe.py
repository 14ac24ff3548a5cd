"""Which settings `dgpo train` starts from where no recipe is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cli.options import DEFAULT_MODEL
from rewards.errors import UsageError

OTHER_RECIPE = "ocr"


def default_recipe(model: str | None, rewards: Sequence[str] | None, algorithm: str | None = None) -> str:
    """`tiny` for the embedded model, for others the recipe of their family that is named like the first reward (`ocr`,
    `flux-ocr`); `nft-tiny`, `nft-ocr` and so on for other algorithms than DGPO."""
    from dgpo.algorithms.algorithm import find_algorithm
    from dgpo.config import DEFAULT_ALGORITHM, recipe_names
    from rewards.parse import parse_rewards

    embedded = model is None or model == DEFAULT_MODEL
    names = [spec.name for spec in parse_rewards(rewards or ["ocr"])]
    start = DEFAULT_MODEL if model is None or embedded else f"{_beginning(model, names[0])}{names[0]}"
    if algorithm not in (None, DEFAULT_ALGORITHM):
        find_algorithm(algorithm)
        # Recipes shorten an algorithm's name to its last word where that tells it: dpo-ocr.
        known = [f"{name}-{start}" for name in (algorithm, algorithm.rpartition("-")[2])]
        start = next((name for name in known if name in recipe_names()), "")
        if not start:
            raise UsageError(
                f"There is no recipe for {algorithm}, the reward {names[0]} and such a model, so say which settings to "
                "start from with --recipe; `dgpo recipes ls` lists them."
            )
    if start in recipe_names():
        return start
    raise UsageError(
        f"There is no recipe for the reward {names[0]} and such a model, so say which settings to start from: --recipe "
        f"{OTHER_RECIPE} suits most rewards with Stable Diffusion 3 (others: "
        f"{', '.join(sorted(set(recipe_names()) - {OTHER_RECIPE}))})."
    )


def _beginning(model: str, reward: str) -> str:
    """What the family's recipes begin with; of a model that is not on this machine, as a recipe that names it does."""
    from dgpo.config import find_recipe, recipe_names
    from dgpo.load import find_recipes
    from dgpo.models.find import HubId

    found = find_recipes(model)
    if found is not None:
        return found
    model = HubId.of(model).repository
    texts = {name: find_recipe(name).read_text() for name in recipe_names() if name.endswith(reward)}
    named = [name for name, text in texts.items() if f"\nmodel: {model}\n" in text and "\nalgorithm:" not in text]
    return named[0].removesuffix(reward) if named and reward not in named else ""


def fitting_evaluation(model: str | None, rewards: Sequence[str] | None) -> dict[str, Any]:
    """The default recipe evaluates on signs; a reward that can judge one suite's prompts only needs that suite."""
    from benchmarks.suites import find_own_suite
    from rewards.parse import parse_rewards

    own = find_own_suite([one.name for one in parse_rewards(rewards or [])])
    return {} if own is None or model not in (None, DEFAULT_MODEL) else {"evaluation.suite": own.name}
