"""One iteration after another: what is drawn, learned and written."""

import json
import time

import pytest
import torch

from dgpo.checkpoint import checkpoints
from dgpo.parallel import Ranks
from dgpo.plan import planned_passes
from tests.dgpo.run_files import steps, trained_weights
from tests.dgpo.training import brightness, build_trainer, digest, small_config, train


class Scaling(Ranks):
    """Multiplies every gradient."""

    def __init__(self, scale):
        super().__init__(cpu=True)
        self.scale = scale

    def sum_gradients(self, parameters):
        for parameter in parameters:
            parameter.grad *= self.scale


class TestRun:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"sampling.guidance": 2.0, "dgpo.clip": 0.1, "dgpo.kl": 0.1},
            {"dgpo.reference": "old", "dgpo.clip": 0.1},
        ],
    )
    def test_passes_are_as_planned(self, model_folder, tmp_path, changes):
        config = small_config(model_folder, {"steps": 1, **changes})
        trained = train(config, tmp_path)
        assert trained.run.read_metrics()[0]["passes"] == planned_passes(config, trained.policy.model.passes)

    def test_same_seed_same_run_other_seed_another(self, model_folder, tmp_path):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            train(small_config(model_folder, {"steps": 2, "seed": seed}), tmp_path / name)
        assert digest(tmp_path / "a", 2) == digest(tmp_path / "b", 2) != digest(tmp_path / "c", 2)

    def test_drawing_in_smaller_batches_draws_the_same_images(self, model_folder, tmp_path):
        rewards = []
        for size in (8, 3):
            config = small_config(model_folder, {"steps": 1, "rollout.micro_batch": size})
            rewards.append(train(config, tmp_path / str(size)).run.read_metrics()[0]["reward"])
        assert rewards[0] == pytest.approx(rewards[1], rel=1e-4)

    def test_what_is_left_behind(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 3, "samples.every": 2, "checkpoint.every": 2})
        looks = []

        def evaluate(step, policy):
            looks.append(step)
            return {"ocr@1": {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}}

        train(config, tmp_path, evaluate=evaluate)
        assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
            "step-000000.png",
            "step-000002.png",
            "step-000003.png",
        ]
        assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000003", "step-000002"]
        assert looks == [0, 3]
        assert (tmp_path / "curve.png").stat().st_size > 1000
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [(line["step"], "evaluation" in line) for line in lines] == [
            (0, True),
            (1, False),
            (2, False),
            (3, False),
            (3, True),
        ]
        told = {
            "reward",
            "spread",
            "dead_groups",
            "failed",
            "rewards",
            "loss",
            "kl",
            "clipped",
            "gradient_norm",
            "seconds",
            "passes",
        }
        assert told <= lines[1].keys()
        assert lines[1]["seconds"].keys() == {"draw", "score", "learn"}
        assert lines[1]["rewards"]["imagestats.edges@1"] == pytest.approx(lines[1]["reward"])

    def test_warm_up_raises_the_step_size(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 4, "optimizer.warm_up": 3, "optimizer.learning_rate": 3e-3})
        rates = [line["learning_rate"] for line in train(config, tmp_path).run.read_metrics()]
        assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 3e-3])

    def test_gradient_norm_is_limited_after_it_is_measured(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 1, "optimizer.max_norm": 1e-6})
        trainer = build_trainer(config, tmp_path)
        norms = []
        trainer.optimizer.adamw.register_step_pre_hook(
            lambda *_: norms.append(
                torch.cat([p.grad.flatten() for p in trainer.policy.parameters if p.grad is not None]).norm().item()
            )
        )
        trainer.train(resume=False)
        assert norms == [pytest.approx(1e-6, rel=1e-2)]
        assert trainer.optimizer.gradient_norm > 1e-5

    def test_step_depends_on_the_gradient_beside_its_limit_alone(self, model_folder, tmp_path):
        """A quarter of the gradient under a quarter of the limit is the same step of AdamW, with a quarter of epsilon.

        So a recipe keeps its steps when the norm that its gradients are measured by is counted anew.
        """
        limit, epsilon = 0.003, 1e-8
        whole = {"optimizer.max_norm": limit, "optimizer.epsilon": epsilon}
        quarter = {"optimizer.max_norm": limit / 4, "optimizer.epsilon": epsilon / 4}
        moved, norms = [], []
        for scale, more in ((1.0, whole), (0.25, quarter)):
            trainer = build_trainer(small_config(model_folder, more), tmp_path / str(scale), ranks=Scaling(scale))
            begun = [p.detach().clone() for p in trainer.policy.parameters]
            trainer.train(resume=False)
            ended = trainer.policy.parameters
            moved.append(torch.cat([(b - a).flatten() for a, b in zip(begun, ended, strict=True)]))
            norms.append(trainer.optimizer.gradient_norm)
        assert norms[0] > limit, "the limit bites"
        assert norms[1] == pytest.approx(norms[0] / 4, rel=1e-2)
        assert (moved[1] - moved[0]).norm() / moved[0].norm() < 1e-3

    def test_it_learns(self, model_folder, tmp_path):
        """Brighter images are better: the reward rises far beyond what chance does to it."""
        changes = {
            "steps": 10,
            "groups": 2,
            "group_size": 8,
            "optimizer.learning_rate": 1e-2,
            "dgpo.one_update": False,
        }
        config = small_config(
            model_folder, changes | {"optimizer.micro_batch": 16, "training.rank": 8, "rollout.micro_batch": 16}
        )
        lines = train(config, tmp_path).run.read_metrics()
        first, last = (sum(line["reward"] for line in some) / 2 for some in (lines[:2], lines[-2:]))
        assert last > first + 3 * lines[0]["spread"]

    def test_iteration_of_dead_groups_moves_nothing(self, model_folder, tmp_path):
        """Not by momentum, weight decay or KL either."""
        changes = {"steps": 4, "dgpo.kl": 0.1, "optimizer.weight_decay": 0.1}
        seen = []

        def value(image, prompt):
            seen.append(prompt)
            return brightness(image, prompt) if len(seen) <= 16 else 0.5

        trainer = train(small_config(model_folder, changes), tmp_path / "run", value=value)
        train(small_config(model_folder, changes | {"steps": 2}), tmp_path / "before")
        lines = trainer.run.read_metrics()
        assert [line["dead_groups"] for line in lines] == [0.0, 0.0, 1.0, 1.0]
        assert [line["gradient_norm"] > 0 for line in lines] == [True, True, False, False]
        assert trainer.progress.updates == 2
        after, before = trained_weights(tmp_path / "run", 4), trained_weights(tmp_path / "before", 2)
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_time_of_scoring_is_booked_as_scoring_where_it_is_done_while_drawing(model_folder, tmp_path):
    """Two images of a reward that takes half a second each, in the process that draws."""

    def slow(image, prompt):
        time.sleep(0.5)
        return brightness(image, prompt)

    config = small_config(model_folder, {"groups": 1, "group_size": 2, "steps": 1, "watch.canaries": 0})
    train(config, tmp_path, value=slow)
    assert steps(tmp_path)[0]["seconds"]["score"] >= 1.0
