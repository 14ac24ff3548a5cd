"""The speed comparison runs as a command, measures what it says, and refuses scores that differ."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.machines import speed
from benchmarks.machines.speed import (
    Timing,
    compare,
    draw_pairs,
    format_table,
    main,
    measure,
    score_in_batches,
    score_one_by_one,
)
from rewards.card import Card
from rewards.clip.network import ClipTower
from rewards.errors import ScoringError
from rewards.reward import Reward
from rewards.score import Score

CPU = torch.device("cpu")


class RedShare(Reward):
    """Mean of the red channel, in batches whose sizes it notes down."""

    card = Card(name="red", version=1, unit="share", bounds=(0, None), higher_is_better=True, summary="mean red")

    def __init__(self):
        self.batches = []

    def score(self, images, prompts):
        self.batches.append(len(images))
        if any(prompt.text == "fail" for prompt in prompts):
            raise ScoringError("cannot")
        return [Score(red_share(image, prompt.text)) for image, prompt in zip(images, prompts, strict=True)]


def red_share(image, text):
    return sum(image.convert("RGB").getchannel("R").tobytes()) / (image.width * image.height * 255) + len(text)


def test_the_command_prints_a_table():
    arguments = [
        "--images",
        "3",
        "--rounds",
        "1",
        "--device",
        "cpu",
        "--reward",
        "imagereward",
        "--pairs-per-image",
        "2",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.machines.speed", *arguments],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    heading, blank, names, rule, row = result.stdout.splitlines()
    assert "tiny random weights, 3 PNG files of 512x512, prompts per image: 2; fp32 on the CPU" in heading
    assert blank == ""
    assert names.startswith("| reward | one by one, images/s | ours, images/s | ratio |")
    assert rule.startswith("| --- | ---: |")
    assert row.startswith("| imagereward | ")
    assert "measuring imagereward" in result.stderr


def test_all_rewards_are_measured_apart_and_together(tmp_path):
    timings = measure(list(speed.PLAIN), "tiny", 2, 1, CPU, 2, tmp_path)
    assert list(timings) == ["pickscore", "aesthetic", "imagereward", "clipscore", "hpsv2", "all of them"]
    for timing in timings.values():
        assert len(timing.plain_s) == len(timing.ours_s) == 2
        assert min(*timing.plain_s, *timing.ours_s) > 0
        assert timing.difference < speed.TOLERANCE
    assert (tmp_path / "aesthetic" / "clip").resolve() == (tmp_path / "clipscore" / "clip").resolve()


def test_aesthetic_and_clipscore_encode_an_image_once(tmp_path, monkeypatch):
    """The point of measuring them together; with another definition of clipscore they would not."""
    encoded = []
    encode = ClipTower._encode_images
    monkeypatch.setattr(ClipTower, "_encode_images", lambda tower, x: encoded.append(len(x)) or encode(tower, x))
    weights = {name: speed._write_weights(name, tmp_path, "tiny") for name in ("aesthetic", "clipscore")}
    rewards = {name: speed._build(name, folder, CPU) for name, folder in weights.items()}
    score_in_batches(rewards, draw_pairs(tmp_path / "images", 3, 2, seed=0))
    assert encoded == [3]


def test_batches_give_the_scores_of_one_by_one_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "DECODED", 4)
    pairs = draw_pairs(tmp_path / "images", 5, 2, seed=0)
    reward = RedShare()
    ours = score_in_batches({"red": reward}, pairs)
    assert ours == score_one_by_one({"red": red_share}, pairs, CPU)
    assert reward.batches == [4, 4, 2]


def test_a_score_that_is_not_made_ends_the_comparison(tmp_path):
    pairs = [(path, "fail") for path, _ in draw_pairs(tmp_path / "images", 1, 1, seed=0)]
    ours = score_in_batches({"red": RedShare()}, pairs)
    with pytest.raises(SystemExit, match=r"red: pair 0 scores .* and nan in a batch"):
        compare({"red": [0.5]}, ours)


def test_differences_are_a_share_of_large_scores():
    assert compare({"a": [100.0, 0.1]}, {"a": [100.005, 0.1]}) == pytest.approx(5e-5)
    with pytest.raises(SystemExit, match=r"pair 1 scores 0\.1 one by one and 0\.1002 in a batch"):
        compare({"a": [100.0, 0.1]}, {"a": [100.0, 0.1002]})


def test_pairs_are_new_for_every_seed_and_equal_for_one(tmp_path):
    one, other, again = (draw_pairs(tmp_path / name, 3, 2, seed) for name, seed in (("a", 1), ("b", 2), ("c", 1)))
    pixels = [[Image.open(path).tobytes() for path, _ in pairs] for pairs in (one, other, again)]
    assert pixels[0] == pixels[2]
    assert not set(pixels[0]) & set(pixels[1])
    assert [text for _, text in one] == [text for _, text in again]
    assert len({path for path, _ in one}) == 3
    assert len(set(one)) == 6


def test_the_table_takes_the_best_round_of_each_way():
    """10 images in 2 s and in 0.5 s are 5 and 20 a second, 4 times as many; the worst took 50 % and 100 % longer."""
    table = format_table({"it": Timing([2.0, 3.0], [1.0, 0.5], 3e-7)}, 10)
    assert table.splitlines()[-1] == "| it | 5 | 20 | 4.00 | 50% / 100% | 3e-07 |"
    once = format_table({"it": Timing([2.0], [0.5], 3e-7)}, 10)
    assert once.splitlines()[-1] == "| it | 5 | 20 | 4.00 | unknown | 3e-07 |"


@pytest.mark.parametrize("arguments", [["--images", "0"], ["--rounds", "x"], ["--reward", "ocr"], ["--size", "huge"]])
def test_wrong_use_ends_before_anything_is_drawn(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "drawing" not in capsys.readouterr().err


def test_an_unknown_device_is_a_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--device", "tpu"])
    assert caught.value.code == 2
    assert "is not a device" in capsys.readouterr().err
