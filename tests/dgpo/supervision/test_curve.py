"""The curve of a run: what is drawn of evaluations that could not say everything."""

from PIL import Image

from dgpo.supervision.curve import draw_curve, held_out_points


def evaluation(step, mean, low, high):
    return {"step": step, "evaluation": {"ocr@1": {"mean": mean, "ci_low": low, "ci_high": high, "failed": 0}}}


LINES = [
    evaluation(0, 0.5, 0.25, 1.0),
    {"step": 1, "reward": 0.5, "spread": 0.1},
    evaluation(1, None, None, None),
    evaluation(2, 0.75, None, None),
]


def test_evaluations_without_scores_are_no_points_and_without_intervals_no_bars():
    assert held_out_points(LINES) == {"ocr@1": [(0, 0.5, 0.25, 0.5), (2, 0.75, 0.0, 0.0)]}


def test_the_curve_is_drawn_whatever_is_missing(tmp_path):
    for count in range(len(LINES) + 1):
        draw_curve(LINES[:count], tmp_path / "curve.png")
        with Image.open(tmp_path / "curve.png") as image:
            assert image.width > 100
