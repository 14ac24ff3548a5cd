from collections import Counter

import pytest
import torch

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


@pytest.mark.parametrize("seed", [0, 1, 9 * 10**12, 18 * 10**12])
def test_order_is_that_of_the_numbers_it_always_was(seed):
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed * 1_000_003 + 77_777)).tolist()
    assert PromptStream(PROMPTS, seed).take(0, 7) == [PROMPTS[place] for place in order]


def test_every_seed_of_64_bits_has_an_order():
    orders = {
        tuple(prompt.id for prompt in PromptStream(PROMPTS, seed).take(0, 7)) for seed in (2**64 - 1, 2**63, 10**14)
    }
    assert len(orders) == 3
