"""Two rewards that want the opposite, through the real program: what is learned is what their weights say."""

import pytest

from tests.cli.toys import BRIGHT, dgpo, metrics, prepare

DARK = """

class Dark(Bright):
    card = Card(
        name="dark", version=1, unit="mean grey", bounds=(-1, 0), higher_is_better=True, summary="how dark",
        reads_prompt=False,
    )

    def score(self, images, prompts):
        return [Score(-score.value) for score in super().score(images, prompts)]
"""
MIXES = ([], ["advantage.per_reward=true"], ["advantage.gdpo=true"])
NAMES = ["sum", "per reward", "gdpo"]


@pytest.fixture
def folder(tmp_path, monkeypatch, model_folder):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, model_folder, {"dgpo": {"times": 2, "min_sigma": 0.5}, "optimizer": {"learning_rate": 0.003}})
    (tmp_path / "both.py").write_text(BRIGHT + DARK)
    return tmp_path


def train(output, bright, dark, settings, steps=1):
    rewards = ["--reward", f"both.py:Bright={bright}", "--reward", f"both.py:Dark={dark}"]
    sets = [word for name in settings for word in ("--set", name)]
    dgpo("train", "--recipe", "recipe.yaml", *rewards, *sets, "--steps", str(steps), "--output", output)


@pytest.mark.parametrize("settings", MIXES, ids=NAMES)
def test_rewards_that_cancel_teach_nothing_and_are_both_reported(folder, settings):
    train("run", 0.5, 0.5, settings)
    (line,) = metrics(folder / "run")
    assert line["dead_groups"] == 1
    assert line["gradient_norm"] == 0
    assert line["rewards"]["bright@1"] == -line["rewards"]["dark@1"] > 0


@pytest.mark.parametrize(
    "settings", [pytest.param(one, marks=pytest.mark.slow) for one in MIXES[:2]] + [MIXES[2]], ids=NAMES
)
def test_the_heavier_one_wins(folder, settings):
    brightness = {}
    for name, bright in (("brighter", 0.7), ("darker", 0.3)):
        train(name, bright, round(1 - bright, 1), settings, steps=6)
        brightness[name] = [line["rewards"]["bright@1"] for line in metrics(folder / name)]
    (start, *up), (same, *down) = brightness.values()
    assert start == same
    assert all(brighter > darker for brighter, darker in zip(up, down, strict=True))
    assert up[-1] > start > down[-1]
