"""Relations worked out by hand; boxes of 20 x 20 px unless another size matters."""

import pytest

from rewards.geneval.geometry import relative_position


def box(x, y, width=20.0, height=20.0):
    """A box by its centre."""
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


@pytest.mark.parametrize(
    ("centre", "relations"),
    [
        ((-50, 0), {"left of"}),
        ((50, 0), {"right of"}),
        ((0, -50), {"above"}),
        ((0, 50), {"below"}),
        ((50, 50), {"right of", "below"}),  # (46, 46) / 70.7 = 0.65 each
        ((-50, -50), {"left of", "above"}),
        ((12, 12), set()),  # (8, 8) / 17.0 = 0.47 each: the margin eats a near diagonal
        ((0, 0), set()),
    ],
)
def test_directions(centre, relations):
    assert relative_position(box(*centre), box(0, 0)) == relations


@pytest.mark.parametrize(
    ("x", "relations"),
    [
        (4.0, set()),  # all of the offset is margin
        (4.0005, set()),  # 0.0005 px are left, below 1e-3
        (7.9, set()),  # 3.9 / 7.9 = 0.494
        (8.0, set()),  # 4 / 8 is 0.5 and not beyond it
        (8.1, {"right of"}),  # 4.1 / 8.1 = 0.506
    ],
)
def test_thresholds_are_strict(x, relations):
    assert relative_position(box(x, 0), box(0, 0)) == relations
    mirrored = {"left of"} if relations else set()
    assert relative_position(box(-x, 0), box(0, 0)) == mirrored


@pytest.mark.parametrize(("x", "relations"), [(0.0009, set()), (0.0011, {"right of"})])
def test_boxes_without_size_need_a_thousandth_of_a_pixel(x, relations):
    assert relative_position(box(x, 0, 0, 0), box(0, 0, 0, 0)) == relations


def test_the_norm_is_that_of_the_offset_before_it_is_shortened():
    # (12, 4): shortened (8, 0), norm sqrt(160) = 12.65 -> 0.63; by the shortened norm it would be 1.
    # (9, 7): shortened (5, 3), norm 11.40 -> 0.44; by the shortened norm 5.83 it would be 0.86.
    assert relative_position(box(12, 4), box(0, 0)) == {"right of"}
    assert relative_position(box(9, 7), box(0, 0)) == frozenset()


def test_both_sizes_make_the_margin_on_each_axis():
    # Across: 0.1 * (20 + 100) = 12 px of 20, 8 / 20 = 0.4. With a target of 20 px: 4 of 20, 0.8.
    assert relative_position(box(20, 0), box(0, 0, width=100)) == frozenset()
    assert relative_position(box(20, 0), box(0, 0, height=100)) == {"right of"}


def test_further_entries_and_the_order_of_corners_do_not_matter():
    assert relative_position((*box(-50, 0), 0.9), (*box(0, 0), 0.4)) == {"left of"}
    assert relative_position((-40, 10, -60, -10), box(0, 0)) == {"left of"}
