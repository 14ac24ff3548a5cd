"""Several rewards at once."""

import statistics
from concurrent.futures import Future

import pytest
import torch

from dgpo.advantage import mix_rewards
from dgpo.reward_choice import choose_rewards
from dgpo.sections import Advantage
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.registry import card_of
from rewards.score import Score
from tests.dgpo.run_files import steps
from tests.dgpo.training import digest, small_config, train


class TestMix:
    """Two real rewards through the real pool; the second is a hundred times as large."""

    MIX = ("imagestats.edges=0.8", "imagestats.colours=0.02")

    def train(self, model_folder, folder, **changes):
        config = small_config(model_folder, {"rewards": list(self.MIX), "steps": 2, **changes})
        with ScoringPool(choose_rewards(config).trained, workers=0) as pool:
            return train(config, folder, pool=pool)

    def test_each_part_stays_visible_in_its_own_unit(self, model_folder, tmp_path):
        trainer = self.train(model_folder, tmp_path)
        lines = steps(tmp_path)
        assert [line["step"] for line in lines] == [1, 2]
        for line in lines:
            assert list(line["rewards"]) == list(line["spreads"]) == ["imagestats.edges@1", "imagestats.colours@1"]
            edges, colours = line["rewards"].values()
            assert 0 < edges < 1 < colours < 12
            assert line["reward"] == pytest.approx(0.8 * edges + 0.02 * colours, rel=1e-12)
            assert all(spread > 0 for spread in line["spreads"].values())
            assert line["failed"] == 0
            assert line["gradient_norm"] > 0
        assert trainer.progress.updates == 2

    def test_numbers_are_those_of_the_images(self, model_folder, tmp_path):
        """One image per time, by hand: means, spreads and the sum of what the rewards said."""
        seen = []

        class Remembering(ScoringPool):
            def submit(self, images, prompts):
                future = super().submit(images, prompts)
                seen.append(future.result().scores)
                return future

        config = small_config(model_folder, {"rewards": list(self.MIX), "steps": 1, "groups": 1, "group_size": 8})
        with Remembering(choose_rewards(config).trained, workers=0) as pool:
            train(config, tmp_path, pool=pool)
        (line,) = steps(tmp_path)
        for key in line["rewards"]:
            values = [score.value for batch in seen for score in batch[key]]
            assert line["rewards"][key] == pytest.approx(statistics.fmean(values), rel=1e-12)
            assert line["spreads"][key] == pytest.approx(statistics.pstdev(values), rel=1e-9)

    def test_standardised_parts_teach_something_else_and_report_the_same(self, model_folder, tmp_path):
        self.train(model_folder, tmp_path / "sum")
        self.train(model_folder, tmp_path / "each", **{"advantage.per_reward": True})
        before, after = steps(tmp_path / "sum")[0], steps(tmp_path / "each")[0]
        for name in ("reward", "spread", "rewards", "spreads", "dead_groups"):
            assert before[name] == after[name], name
        assert digest(tmp_path / "sum", 2) != digest(tmp_path / "each", 2)

    def test_a_weight_says_how_much_a_standardised_reward_counts(self, model_folder, tmp_path):
        """Nothing of the second reward: the same training as by the first alone."""
        alone = small_config(model_folder, {"rewards": [self.MIX[0]], "steps": 2, "advantage.per_reward": True})
        with ScoringPool(choose_rewards(alone).trained, workers=0) as pool:
            train(alone, tmp_path / "alone", pool=pool)
        mixed = {"rewards": [self.MIX[0], "imagestats.colours=0"], "advantage.per_reward": True}
        config = small_config(model_folder, {"steps": 2, **mixed})
        with ScoringPool(choose_rewards(config).trained, workers=0) as pool:
            train(config, tmp_path / "mixed", pool=pool)
        assert digest(tmp_path / "alone", 2) == digest(tmp_path / "mixed", 2)

    def test_card_scales_a_part_and_the_lot_is_a_sum(self):
        """PickScore's card says 1/26: the raw 20.8 counts 0.8."""
        specs = parse_rewards(["pickscore=0.5", "ocr=0.25"])
        scales, weights = [card_of(spec).train_scale for spec in specs], [spec.train_weight for spec in specs]
        parts = torch.tensor([[[20.8, 26.0]], [[1.0, 0.0]]], dtype=torch.float64)
        scores, learned = mix_rewards(parts, scales, weights, Advantage())
        assert scores.tolist() == [[pytest.approx(0.65), pytest.approx(0.5)]]
        assert learned is scores

    def test_part_that_failed_fails_its_image_and_is_named(self, model_folder, tmp_path):
        class Blind(ScoringPool):
            """Its second reward fails for the first image of every batch."""

            def submit(self, images, prompts):
                scored = super().submit(images, prompts).result()
                scored.scores["imagestats.colours@1"][0] = Score.failed("colour blind")
                future = Future()
                future.set_result(scored)
                return future

        changes = {"rewards": list(self.MIX), "steps": 1, "groups": 1, "group_size": 4}
        config = small_config(model_folder, changes | {"max_failed": 1})
        with Blind(choose_rewards(config).trained, workers=0) as pool:
            train(config, tmp_path / "allowed", pool=pool)
        (line,) = steps(tmp_path / "allowed")
        assert line["failed"] == 1
        assert set(line["rewards"]) == {"imagestats.edges@1", "imagestats.colours@1"}
        config = small_config(model_folder, changes)
        with (
            Blind(choose_rewards(config).trained, workers=0) as pool,
            pytest.raises(SetupError, match=r"1 of 4 images .* imagestats.colours@1: colour blind"),
        ):
            train(config, tmp_path / "refused", pool=pool)
