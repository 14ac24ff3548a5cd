from dataclasses import dataclass

import pytest
import torch

from dgpo.models.model import Conditioning, Model


@dataclass(frozen=True)
class Told(Conditioning):
    states_NTD: torch.Tensor
    length_N: torch.Tensor


@pytest.fixture
def told():
    """Three prompts of two tokens of two numbers, and a number each."""
    return Told(torch.arange(12.0).view(3, 2, 2), torch.tensor([7, 8, 9]))


def test_take_gives_rows_of_every_field_in_the_order_asked(told):
    taken = told.take(torch.tensor([2, 0, 2]))
    assert isinstance(taken, Told)
    assert taken.length_N.tolist() == [9, 7, 9]
    assert taken.states_NTD.tolist() == [[[8, 9], [10, 11]], [[0, 1], [2, 3]], [[8, 9], [10, 11]]]


def test_join_puts_one_behind_the_other(told):
    joined = Told.join([told, told.take(torch.tensor([1]))])
    assert isinstance(joined, Told)
    assert joined.length_N.tolist() == [7, 8, 9, 8]
    assert torch.equal(joined.states_NTD, told.states_NTD[[0, 1, 2, 1]])


def test_first_repeats_the_first_prompt_without_a_copy(told):
    rows = told.first(5)
    assert rows.length_N.tolist() == [7] * 5
    assert torch.equal(rows.states_NTD, told.states_NTD[[0] * 5])
    assert rows.states_NTD.data_ptr() == told.states_NTD.data_ptr()


def test_what_is_kept_of_it_makes_it_again(told):
    again = Told.from_tensors(told.tensors())
    assert torch.equal(again.states_NTD, told.states_NTD)
    assert torch.equal(again.length_N, told.length_N)


def test_guidance_costs_a_second_pass_where_a_family_says_nothing_else():
    assert [Model.passes(guidance) for guidance in (1.0, 1.5, 4.5)] == [1, 2, 2]
