"""To which category each prompt of a suite belongs, where the suite says so.

A prompt's `tag` (its task: counting, position...) or `category` is part of its spec.
"""

from __future__ import annotations

from collections.abc import Iterable

from rewards.prompt import Prompt

FIELDS = ("tag", "category")


def categories_of(prompts: Iterable[Prompt]) -> dict[str, str]:
    """The category of a prompt by its id; prompts without one are left out."""
    found = {}
    for prompt in prompts:
        category = next((str(prompt.spec[field]) for field in FIELDS if field in prompt.spec), None)
        if category is not None:
            found[prompt.id] = category
    return found
