"""Evaluations and grids of samples."""

from typing import ClassVar

import pytest

from rewards.errors import SetupError
from tests.dgpo.training import digest, small_config, train


class TestLooks:
    """Grids, evaluations and the order in which things are saved."""

    FINE: ClassVar = {"ocr@1": {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}}

    def test_an_evaluation_that_fails_ends_the_run_saved_and_is_made_by_the_next_command(self, model_folder, tmp_path):
        """Whether a checkpoint is due at that step or not."""
        for name, every in (("due", 2), ("not due", 0)):
            folder, asked = tmp_path / name, []
            config = small_config(model_folder, {"steps": 4, "evaluation.every": 2, "checkpoint.every": every})

            def evaluate(step, policy, asked=asked):
                asked.append(step)
                if asked == [0, 2]:
                    raise SetupError("The reward's server is gone.")
                return self.FINE

            with pytest.raises(SetupError) as told:
                train(config, folder, evaluate=evaluate)
            assert str(told.value) == (
                "The evaluation at step 2 cannot be made: The reward's server is gone. The run is saved; mend the "
                "cause and give the same command to go on."
            )
            assert [path.name for path in (folder / "checkpoints").glob("step-*")] == ["step-000002"]
            trainer = train(config, folder, evaluate=evaluate)
            assert asked == [0, 2, 2, 4]
            lines = trainer.run.read_metrics()
            assert [line["step"] for line in lines if "evaluation" in line] == [0, 2, 4]
            train(config, folder, evaluate=evaluate)
            assert asked == [0, 2, 2, 4]
        assert digest(tmp_path / "due", 4) == digest(tmp_path / "not due", 4)

    def test_the_last_evaluation_is_made_up_for_too(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 1})
        asked = []

        def evaluate(step, policy):
            asked.append(step)
            if len(asked) == 2:
                raise SetupError("The reward's server is gone.")
            return self.FINE

        with pytest.raises(SetupError, match="evaluation at step 1 cannot be made"):
            train(config, tmp_path, evaluate=evaluate)
        train(config, tmp_path, evaluate=evaluate)
        assert asked == [0, 1, 1]
        assert (tmp_path / "curve.png").is_file()

    @pytest.mark.parametrize(("every", "grids"), [(0, [3]), (1, [0, 1, 2, 3]), (2, [0, 2, 3])])
    def test_grids_are_drawn_when_they_are_due_and_at_the_end(self, model_folder, tmp_path, every, grids):
        """0 is only at the end; evaluations draw none."""
        config = small_config(model_folder, {"steps": 3, "samples.every": every, "evaluation.every": 1})
        train(config, tmp_path, evaluate=lambda step, policy: self.FINE)
        assert [int(path.stem[-6:]) for path in sorted((tmp_path / "samples").iterdir())] == grids
