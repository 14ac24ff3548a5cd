from collections import Counter

import pytest

from dgpo.prompts import PromptStream
from rewards.errors import UsageError
from rewards.prompt import Prompt

PROMPTS = [Prompt(f"prompt {i}") for i in range(7)]


@pytest.mark.parametrize("count", [1, 3, 7, 10])
def test_every_epoch_is_a_permutation(count):
    stream = PromptStream(PROMPTS, seed=0)
    drawn = [prompt for step in range(7 * 3) for prompt in stream.take(step, count)]
    epochs = [drawn[start : start + 7] for start in range(0, len(drawn), 7)]
    assert all(Counter(epoch) == Counter(PROMPTS) for epoch in epochs)
    assert len({tuple(prompt.text for prompt in epoch) for epoch in epochs}) > 1


def test_has_no_state():
    asked = PromptStream(PROMPTS, seed=0)
    for step in range(9):
        asked.take(step, 3)
    assert asked.take(4, 3) == PromptStream(PROMPTS, seed=0).take(4, 3)


def test_seed_matters():
    assert PromptStream(PROMPTS, 0).take(0, 7) != PromptStream(PROMPTS, 1).take(0, 7)


def test_no_prompts_are_refused():
    with pytest.raises(UsageError, match="no prompts"):
        PromptStream([], seed=0)
