"""Scores, boxes and masks of logits that are written by hand."""

import numpy as np
import pytest
import torch

from rewards.geneval.masks import Frame, find_objects

SQUARE = Frame(given=(32, 32), resized=(32, 32), padded=(32, 32))


def logits(*probabilities):
    """Class logits of which the softmax is these probabilities; the last is that of "nothing"."""
    return torch.tensor(probabilities).log()


def blank(queries=1, size=8, value=-10.0):
    return torch.full((queries, size, size), value)


def test_a_score_is_the_probability_times_the_mean_inside_the_mask():
    masks = blank(value=2.0)  # everywhere inside
    (rows, found), (other, _) = find_objects(logits([0.6, 0.1, 0.3]), masks, SQUARE)
    inside = 1 / (1 + np.exp(-2.0))
    assert rows.dtype == np.float32
    assert found.dtype == bool
    assert rows[0] == pytest.approx([0, 0, 32, 32, 0.6 * inside], abs=1e-6)
    assert other[0, 4] == pytest.approx(0.1 * inside)  # the same query as the other class
    assert found.shape == (1, 32, 32)
    assert found.all()


def test_an_empty_mask_scores_0_and_has_a_box_of_zeros():
    (rows, found), _ = find_objects(logits([0.9, 0.05, 0.05]), blank(), SQUARE)
    assert rows.tolist() == [[0, 0, 0, 0, 0]]
    assert not found.any()


def test_the_box_ends_one_beyond_the_last_pixel():
    masks = blank(size=32)
    masks[0, 5:9, 10:20] = 10.0
    (rows, found), _ = find_objects(logits([0.9, 0.05, 0.05]), masks, SQUARE)
    assert rows[0, :4].tolist() == [10, 5, 20, 9]
    assert found[0].sum() == 40


def test_padding_is_cut_off_before_the_second_step():
    """A mask that fills the left half of the picture, of which a quarter is padding, fills its left two thirds."""
    frame = Frame(given=(96, 96), resized=(32, 24), padded=(32, 32))
    masks = blank()
    masks[0, :, :4] = 10.0
    (rows, _), _ = find_objects(logits([0.9, 0.05, 0.05]), masks, frame)
    assert rows[0, :4].tolist() == [0, 0, 64, 96]


def test_only_the_100_most_probable_pairs():
    probabilities = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    probabilities /= probabilities.sum(1, keepdim=True)
    found = find_objects(probabilities.log(), blank(60, value=30.0), SQUARE)
    scores = np.sort(np.concatenate([rows[:, 4] for rows, _ in found]))
    expected = probabilities[:, :3].flatten().sort().values[-100:].numpy()
    assert len(scores) == 100
    assert scores == pytest.approx(expected, abs=1e-6)


def test_left_out_are_exactly_those_that_cannot_score_above():
    probabilities = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6], [0.7, 0.1, 0.2]])
    masks = blank(3, value=1.0)
    masks[1, :4] = 30.0
    everything = find_objects(probabilities.log(), masks, SQUARE)
    some = find_objects(probabilities.log(), masks, SQUARE, above=0.25)
    for (rows, found), (rows_above, found_above) in zip(everything, some, strict=True):
        high = rows[:, 4] > 0.25
        kept = rows_above[:, 4] > 0.25
        assert np.array_equal(rows[high], rows_above[kept])
        assert np.array_equal(found[high], found_above[kept])
    assert [len(rows) for rows, _ in some] == [2, 1]


def test_nothing_above():
    found = find_objects(logits([0.1, 0.1, 0.8]), blank(value=5.0), SQUARE, above=0.3)
    assert [(rows.shape, masks.shape) for rows, masks in found] == [((0, 5), (0, 32, 32))] * 2
