"""The algorithm seam holds: an algorithm written here trains through the real program."""

from typing import Any, ClassVar

import pytest
import torch

from dgpo.algorithms.algorithm import ALGORITHMS, Algorithm, Planned
from dgpo.compare_runs import compare_runs
from dgpo.noise import seeded_noise
from dgpo.sections import Positive, Section
from tests.cli.toys import dgpo, metrics, prepare, train


class Weighting(Section):
    temperature: Positive = 0.1
    """How much more the better images of a group count."""


class Weighted(Algorithm):
    """Reward-weighted regression: images are imitated, those with better scores more."""

    summary = "Reward-weighted regression (Peters and Schaal 2007), for tests"
    Settings = Weighting
    shown: ClassVar = {"error": ".3f"}

    @classmethod
    def passes(cls, settings: Any, iteration: Planned) -> dict[str, float]:
        return {"current": 1, "backward": 1}

    def learn(self, batch, step, update) -> dict[str, Any]:
        assert batch.scores_KG is not None
        weight_B = torch.softmax(batch.scores_KG / self.settings.temperature, dim=1).flatten()[batch.image_B].float()
        noise = seeded_noise(tuple(batch.x0_BCHW.shape[1:]), "toy", self.geometry.seed, step).expand_as(batch.x0_BCHW)
        x_BCHW, sigma_B = self.path.add_noise(batch.x0_BCHW, noise, 0.5), torch.full((len(weight_B),), 0.5)
        rows = batch.conditioning.take(batch.group_B)
        velocity = self.policy.velocity("current", x_BCHW, sigma_B, rows, purpose="current")
        error_B = self.path.error(velocity, batch.x0_BCHW, noise)
        (weight_B * error_B).sum().backward()
        self.policy.passes["backward"] += len(weight_B)
        update()
        return {"error": error_B.mean().item()}


@pytest.fixture
def folder(tmp_path, monkeypatch, model_folder):
    monkeypatch.setitem(ALGORITHMS, "weighted", Weighted)
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, model_folder, {"algorithm": "weighted", "weighted": {"temperature": 0.05}})
    return tmp_path


def test_it_trains_shows_its_metrics_and_goes_on(folder):
    said = train("run")
    assert "5F+1B per image: rollout 4, current 1, backward 1" in said
    assert ", error " in said
    assert "kl" not in said
    lines = metrics(folder / "run")
    assert [set(line["passes"]) for line in lines] == [{"rollout", "current", "backward"}] * 2
    assert all(line["error"] > 0 for line in lines)
    assert not (folder / "run/checkpoints/step-000002/old").exists()
    train("again", "--steps", "1")
    train("again", "--steps", "2")
    assert [one for one in compare_runs(folder / "run", folder / "again") if one.step == 2] == []


def test_its_settings_are_its_own(folder):
    assert "weighted.temperature: Input should be greater than 0" in train(
        "run", "--set", "weighted.temperature=0", code=2
    )
    assert 'There is no setting "weighted.tempreature"' in train("run", "--set", "weighted.tempreature=1", code=2)
    assert "settings of the algorithm dgpo, and this run learns by weighted" in train(
        "run", "--set", "dgpo.beta=1", code=2
    )
    assert "Direct Group Preference Optimization" in dgpo("algorithms", "ls")
    shown = dgpo("algorithms", "show", "weighted")
    assert "weighted.temperature" in shown
    assert "How much more the better images of a group count." in shown
    assert "keeps beside the trained weights: nothing" in shown
