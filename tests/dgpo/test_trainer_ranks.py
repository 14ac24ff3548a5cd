"""Several processes train as one does."""

import math

import pytest

from tests.dgpo.run_files import flat, steps, trained_weights
from tests.dgpo.training import build_trainer, small_config, train, train_processes


class TestRanks:
    """One process against two."""

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"groups": 2, "group_size": 4}, id="even", marks=pytest.mark.slow),
            pytest.param({"groups": 3, "group_size": 3}, id="uneven"),
            pytest.param({"rewards": ["imagestats.edges=0.8", "ocr=-0.3"], "advantage.per_reward": True}, id="mix"),
        ],
    )
    def test_two_processes_train_as_one_does(self, processes, model_folder, tmp_path, changes):
        """The same images at once: a micro-batch on each of two ranks is half of the one on one rank.

        With AdamW's usual epsilon a gradient of rounding errors makes as long a step as any other; here steps are
        proportional to gradients.
        """
        adamw = {"optimizer.learning_rate": 0.01, "optimizer.epsilon": 1e-3}
        common = {"steps": 3, "dgpo.kl": 0.01, "dgpo.clip": 0.5, **adamw, **changes}
        one, two = (small_config(model_folder, common | {"optimizer.micro_batch": size}) for size in (8, 4))
        start = {
            name: p.detach().double().clone()
            for name, p in build_trainer(one, tmp_path / "start").policy.trained.items()
        }
        train(one, tmp_path / "one")
        train_processes(processes, 2, two, tmp_path / "two")

        for alone, together in zip(steps(tmp_path / "one"), steps(tmp_path / "two"), strict=True):
            for name in ("loss", "reward"):
                assert together[name] == pytest.approx(alone[name], rel=1e-5), name
            # a pixel may be rounded the other way
            for name in ("kl", "gradient_norm", "spread"):
                assert together[name] == pytest.approx(alone[name], rel=1e-3), name
            assert together["passes"] == alone["passes"]
            assert together["rewards"] == pytest.approx(alone["rewards"], rel=1e-5)
            assert together["spreads"] == pytest.approx(alone["spreads"], rel=1e-3)
        assert steps(tmp_path / "one")[-1]["loss"] != pytest.approx(math.log(2) / 100, rel=1e-3)

        before = flat({f"trained/{name}": tensor for name, tensor in start.items()})
        after_one, after_two = (flat(trained_weights(tmp_path / name, 3)) for name in ("one", "two"))
        assert (after_two - after_one).norm() < 1e-3 * (after_one - before).norm()

    def test_more_processes_than_images_train_as_one_does(self, processes, model_folder, tmp_path):
        config = small_config(model_folder, {"groups": 1, "group_size": 2, "steps": 2})
        train_processes(processes, 3, config, tmp_path / "three")
        train(config, tmp_path / "one")
        for alone, together in zip(steps(tmp_path / "one"), steps(tmp_path / "three"), strict=True):
            assert together["times"] == alone["times"]
            assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
            assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)
