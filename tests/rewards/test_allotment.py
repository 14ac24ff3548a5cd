"""Rewards on a GPU have one process of their own; scores are the same, and whoever dies is replaced."""

import pytest
from PIL import Image

from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.scoring.allotment import allot, is_on_gpu

REWARD = """
import os, pathlib
from rewards.card import Card
from rewards.reward import Reward
from rewards.score import Score

class NAME(Reward):
    card = Card(name="NAME", version=1, unit="", bounds=(None, None), higher_is_better=True, summary="", alone=True)

    def __init__(self, spec, card):
        super().__init__(spec, card)
        (pathlib.Path(__file__).parent / f"built-{self.card.name}-{os.getpid()}").touch()

    def score(self, images, prompts):
        if any(prompt.text == "kill NAME" for prompt in prompts):
            os._exit(9)
        return [Score(sum(image.getpixel((0, 0)))) for image in images]
"""


@pytest.fixture
def specs(tmp_path):
    for name in ("Net", "Sign"):
        (tmp_path / f"{name}.py").write_text(REWARD.replace("NAME", name))
    return parse_rewards([f"{tmp_path}/Net.py:Net", f"{tmp_path}/Sign.py:Sign"])


def on_gpu(spec):
    return spec.name == "Net"


@pytest.mark.parametrize(
    ("there", "workers", "expected"),
    [
        ("Net", 4, [(["Net@1"], 1), (["Sign@1"], 4)]),
        ("", 4, [(["Net@1", "Sign@1"], 4)]),
        ("Net Sign", 4, [(["Net@1", "Sign@1"], 1)]),
    ],
)
def test_networks_on_a_gpu_share_one_process(specs, there, workers, expected):
    shares = allot(specs, workers, lambda spec: spec.name in there.split())
    assert [([spec.key for spec in some], count) for some, count in shares] == expected


def test_nothing_to_score_by_is_still_a_crew():
    assert allot([], 2, on_gpu) == [((), 2)]


@pytest.mark.parametrize(
    ("reward", "there"), [("ocr", False), ("pickscore[device=cpu]", False), ("pickscore[device=cuda]", True)]
)
def test_a_card_tells_where_a_reward_computes(reward, there):
    assert is_on_gpu(parse_rewards([reward])[0]) is there


def test_each_is_built_where_it_scores_and_scores_are_put_together(specs, tmp_path, monkeypatch):
    monkeypatch.setattr("rewards.pool.is_on_gpu", on_gpu)
    images = [Image.new("RGB", (2, 2), (number, 0, 0)) for number in range(6)]
    prompts = [Prompt(f"sign {number}") for number in range(6)]
    with ScoringPool(specs, 2) as pool:
        pool.wait_until_built()
        assert set(pool.facts()) == {"Net@1", "Sign@1"}
        scored = pool.submit(images, prompts).result()
        some = pool.limited_to(specs[1:]).submit(images, prompts).result()
        pool.submit(images, prompts, ["Sign@1"]).result()
    expected = [float(number) for number in range(6)]
    assert {key: [score.value for score in scores] for key, scores in scored.scores.items()} == {
        "Net@1": expected,
        "Sign@1": expected,
    }
    assert list(some.scores) == ["Sign@1"]
    built = [path.name.split("-")[1] for path in tmp_path.glob("built-*")]
    assert sorted(built) == ["Net", "Sign", "Sign"]


def test_a_death_costs_one_image_one_score(specs, monkeypatch):
    monkeypatch.setattr("rewards.pool.is_on_gpu", on_gpu)
    images = [Image.new("RGB", (2, 2), (number, 0, 0)) for number in range(3)]
    with ScoringPool(specs, 1) as pool:
        scored = pool.submit(images, [Prompt("a"), Prompt("kill Net"), Prompt("b")]).result().scores
    assert [score.ok for score in scored["Net@1"]] == [True, False, True]
    assert [score.value for score in scored["Sign@1"]] == [0, 1, 2]
