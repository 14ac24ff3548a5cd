"""Scores that fail, and gradients that are not finite."""

import math

import pytest
import torch

from dgpo.parallel import Ranks
from rewards.errors import SetupError
from tests.dgpo.run_files import steps
from tests.dgpo.training import PROMPTS, brightness, digest, small_config, train


def fail_for(prompts):
    return lambda image, prompt: None if prompt in prompts else brightness(image, prompt)


class Spoiling(Ranks):
    """Its `spoiled`-th sum of gradients is not finite; remembers the weights as they were before that."""

    def __init__(self, spoiled):
        super().__init__(cpu=True)
        self.left, self.parameters, self.before = spoiled, [], []

    def sum_gradients(self, parameters):
        super().sum_gradients(parameters)
        self.left -= 1
        if self.left == 0:
            self.parameters, self.before = parameters, [p.detach().clone() for p in parameters]
            assert parameters[0].grad is not None
            parameters[0].grad.fill_(math.nan)


class TestFailures:
    def test_up_to_the_limit_are_masked_and_counted(self, model_folder, tmp_path):
        """One image of four fails: it has no advantage, and the mean is that of the others."""
        judged = []

        def value(image, prompt):
            judged.append(brightness(image, prompt))
            return None if len(judged) == 3 else judged[-1]

        config = small_config(model_folder, {"steps": 1, "groups": 1, "max_failed": 1})
        trainer = train(config, tmp_path, value=value)
        (line,) = trainer.run.read_metrics()
        assert line["failed"] == 1
        assert line["reward"] == pytest.approx(sum(judged[:2] + judged[3:]) / 3, rel=1e-12)
        assert line["dead_groups"] == 0

    def test_beyond_the_limit_stop_the_run_which_goes_on_when_mended(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 3, "max_failed": 3})
        first, second = tmp_path / "run", tmp_path / "at once"
        seen = []

        def asleep(image, prompt):
            seen.append(prompt)
            return None if len(seen) > 8 and prompt == seen[8] else brightness(image, prompt)

        with pytest.raises(
            SetupError, match=r"4 of 8 images could not be scored in iteration 2.*max_failed is 3.*the judge slept"
        ):
            train(config, first, value=asleep)
        assert (first / "checkpoints" / "step-000001").is_dir()
        assert [line["step"] for line in steps(first)] == [1]
        train(config, first)
        train(config, second)
        assert digest(first, 3) == digest(second, 3)

    def test_failing_at_once_can_be_mended_too(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 1})
        looks = []

        def evaluate(step, policy):
            looks.append(step)
            return {"ocr@1": {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}}

        with pytest.raises(SetupError, match="8 of 8"):
            train(config, tmp_path / "run", value=fail_for(PROMPTS), evaluate=evaluate)
        trainer = train(config, tmp_path / "run", evaluate=evaluate)
        train(config, tmp_path / "at once")
        assert digest(tmp_path / "run", 1) == digest(tmp_path / "at once", 1)
        lines = trainer.run.read_metrics()
        assert [line["step"] for line in lines if "evaluation" in line] == [0, 1]

    @pytest.mark.parametrize(
        ("one_update", "stands"), [(True, "is saved at"), (False, "stands at its last checkpoint")]
    )
    def test_gradient_that_is_not_finite_stops_the_run_before_the_step(
        self, model_folder, tmp_path, one_update, stands
    ):
        """Saved as the iteration before left it; not where a step of this very iteration has been made already."""
        changes = {"steps": 3, "dgpo.one_update": one_update}
        config = small_config(model_folder, changes)
        ranks = Spoiling(2 if one_update else 4)
        with pytest.raises(SetupError, match=f"gradient of iteration 2 is not finite.*The run {stands}.*--output"):
            train(config, tmp_path, ranks=ranks)
        assert all(map(torch.equal, ranks.before, ranks.parameters))
        saved = [path.name for path in (tmp_path / "checkpoints").glob("step-*")]
        assert saved == (["step-000001"] if one_update else [])
        train(config, tmp_path)
        train(config, tmp_path / "at once")
        assert digest(tmp_path, 3) == digest(tmp_path / "at once", 3)
