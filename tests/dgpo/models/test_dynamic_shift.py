import pytest

from dgpo.models.dynamic_shift import TokenShift

CONFIG = {"base_image_seq_len": 100, "max_image_seq_len": 300, "base_shift": 1.0, "max_shift": 2.0}


@pytest.mark.parametrize(("tokens", "mu"), [(100, 1.0), (150, 1.25), (300, 2.0), (500, 3.0)])
def test_a_straight_line_through_the_two_points_of_the_config(tokens, mu):
    assert TokenShift(tokens).mu(CONFIG) == pytest.approx(mu)


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.16)])
def test_what_a_config_leaves_out(tokens, mu):
    assert TokenShift(tokens).mu({}) == pytest.approx(mu)
