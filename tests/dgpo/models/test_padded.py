import pytest
import torch

from dgpo.models.padded import PaddedConditioning


def prompt(*values):
    """One prompt with a token of two equal numbers for each value."""
    return PaddedConditioning.of(torch.tensor([[[value, value] for value in values]]))


@pytest.fixture
def told():
    return PaddedConditioning.join([prompt(1.0, 2.0, 3.0), prompt(4.0), prompt(5.0, 6.0)])


def test_shorter_prompts_end_in_zeros_that_the_mask_leaves_out(told):
    assert told.lengths == (3, 1, 2)
    assert told.states_NTD[..., 0].tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert told.mask_NT.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert [row[:, 0].tolist() for row in told.rows()] == [[1, 2, 3], [4], [5, 6]]


def test_rows_are_no_longer_than_the_longest_of_them(told):
    taken = told.take(torch.tensor([2, 1, 2]))
    assert taken.states_NTD[..., 0].tolist() == [[5, 6], [4, 0], [5, 6]]
    assert taken.lengths == (2, 1, 2)
    assert told.take(torch.tensor([1, 1])).mask_NT is None  # nothing is padded any more
    assert told.take(torch.tensor([], dtype=torch.int64)).states_NTD.shape == (0, 0, 2)


def test_the_first_stands_in_every_row(told):
    rows = told.take(torch.tensor([1])).first(3)
    assert rows.lengths == (1, 1, 1)
    assert rows.states_NTD[..., 0].tolist() == [[4], [4], [4]]


def test_what_is_kept_of_a_prompt_makes_it_again():
    again = PaddedConditioning.from_tensors(prompt(5.0, 6.0).tensors())
    assert again.lengths == (2,)
    assert again.states_NTD[..., 0].tolist() == [[5, 6]]
