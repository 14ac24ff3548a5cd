"""Two folders that were not measured alike are refused, and the sentence says how to mend it."""

import pytest
from PIL import Image

from benchmarks.reading.results import read_results, shared_rewards
from rewards.errors import UsageError

SCORES = {(number, seed): float(number) for number in range(3) for seed in range(2)}


def pair(write_results, base=None, run=None, **changes):
    a = write_results("a", base or {"taste@1": SCORES})
    b = write_results("b", run or {"taste@1": SCORES}, **changes)
    return read_results([a, b])


def test_alike(write_results):
    both = {"taste@1": SCORES, "depth@1": SCORES}
    assert shared_rewards(*pair(write_results, both, {"depth@1": SCORES, "taste@1": SCORES})) == ["taste@1", "depth@1"]


def test_other_versions(write_results):
    runs = pair(write_results, run={"taste@2": SCORES})
    with pytest.raises(
        UsageError, match=r"taste was scored as taste@1 in .*a and as taste@2 in .*b.*--reward 'taste@1'"
    ):
        shared_rewards(*runs)


def test_a_shared_version_is_enough(write_results):
    assert shared_rewards(*pair(write_results, run={"taste@2": SCORES, "taste@1": SCORES})) == ["taste@1"]


def test_other_engines(write_results):
    with pytest.raises(UsageError, match=r"different engines or weights .*engine: brass 1\.0 and brass 2\.0"):
        shared_rewards(*pair(write_results, engine="brass 2.0"))


def test_other_seeds(write_results):
    fewer = {cell: score for cell, score in SCORES.items() if cell[1] == 0}
    with pytest.raises(UsageError, match=r"seeds 0, 1 in .*a and 0 in .*b; .*of .*b again with --seeds 2"):
        shared_rewards(*pair(write_results, run={"taste@1": fewer}))


def test_unfinished(write_results):
    fewer = {cell: score for cell, score in SCORES.items() if cell != (1, 1)}
    with pytest.raises(UsageError, match=r"6 images in .*a and 5 in .*b: an evaluation was not finished"):
        shared_rewards(*pair(write_results, run={"taste@1": fewer}))


def test_other_samplers(write_results):
    with pytest.raises(UsageError, match=r"other sampler settings \(guidance None and 4\.5, steps 10 and 40\)"):
        shared_rewards(*pair(write_results, sampler={"steps": 40, "guidance": 4.5}))


def test_a_size_that_was_left_to_the_model_is_that_of_the_images(write_results):
    a = write_results("a", {"taste@1": SCORES}, sampler={"steps": 10, "height": None, "width": None})
    b = write_results("b", {"taste@1": SCORES}, sampler={"steps": 10, "height": 512, "width": 512})
    assert shared_rewards(*read_results([a, b])) == ["taste@1"]  # no image tells
    (a / "images").mkdir()
    Image.new("RGB", (512, 256)).save(a / "images" / "x_0.png")
    with pytest.raises(UsageError, match=r"other sampler settings \(height 256 and 512\)"):
        shared_rewards(*read_results([a, b]))


def test_other_precision(write_results):
    runs = pair(write_results, sampler={"steps": 10, "dtype": "bf16"})
    with pytest.raises(UsageError, match=r"\(dtype fp32 and bf16\).*--dtype NAME.*--any-sampler"):
        shared_rewards(*runs)
    assert shared_rewards(*runs, any_sampler=True) == ["taste@1"]


@pytest.mark.parametrize("dtype", [{}, {"dtype": "float32"}])
def test_precision_of_older_folders_is_no_difference(write_results, dtype):
    """It was not recorded, or under torch's name."""
    assert shared_rewards(*pair(write_results, sampler={"steps": 10, **dtype})) == ["taste@1"]


def test_no_reward_in_common(write_results):
    with pytest.raises(UsageError, match=r"no reward in common .*--reward taste@1"):
        shared_rewards(*pair(write_results, run={"depth@1": SCORES}))


def test_empty_and_foreign_folders(write_results, tmp_path):
    folder = write_results("a", {"taste@1": SCORES})
    lines = (folder / "scores.csv").read_text().splitlines(keepends=True)
    (folder / "scores.csv").write_text(lines[0])
    with pytest.raises(UsageError, match="no scores yet"):
        read_results([folder])
    with pytest.raises(UsageError, match="dgpo eval"):
        read_results([tmp_path])
