"""Which weights follow which, and which are published."""

import pytest
import torch
from safetensors.torch import load_file

from dgpo.checkpoint import whose_weights
from tests.dgpo.run_files import news
from tests.dgpo.training import build_trainer, digest, small_config, train


class TestAverages:
    def test_evaluation_average_moves_once_in_so_many_iterations(self, model_folder, tmp_path, monkeypatch):
        """Whatever micro-batch and updates: after s iterations the decay is (1+s)/(10+s), up to the limit."""
        moves = []
        changes = {
            "steps": 4,
            "averages.evaluation_every": 2,
            "averages.evaluation_decay": 0.3,
            "dgpo.one_update": False,
        }
        config = small_config(model_folder, changes | {"group_size": 2, "optimizer.micro_batch": 1})
        trainer = build_trainer(config, tmp_path)
        monkeypatch.setattr(trainer.policy, "follow", lambda *moved: moves.append(moved))
        trainer.train(resume=False)
        assert moves == [("average", pytest.approx(3 / 12)), ("average", pytest.approx(0.3))]
        assert trainer.progress.updates == 8

    def test_old_policy_follows_every_update(self, model_folder, tmp_path, monkeypatch):
        moves = []
        changes = {"steps": 2, "dgpo.clip": 0.1, "dgpo.old_growth": 0.1, "dgpo.old_decay": 0.25}
        config = small_config(model_folder, changes | {"averages.evaluation_decay": 0.0, "dgpo.one_update": False})
        trainer = build_trainer(config, tmp_path)
        assert set(trainer.policy.snapshots) == {"old"}
        monkeypatch.setattr(trainer.policy, "follow", lambda *moved: moves.append(moved))
        trainer.train(resume=False)
        assert moves == [("old", pytest.approx(d)) for d in (0.0, 0.1, 0.2, 0.25)]

    def test_rollout_is_drawn_by_the_old_policy_after_so_many_iterations(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 4, "rollout.old_after": 2, "averages.evaluation_decay": 0.0})
        trainer, asked = build_trainer(config, tmp_path), []
        velocity = trainer.policy.velocity

        def remember(who, *inputs, **options):
            if options["purpose"] == "rollout" and trainer.progress.step < 4:
                asked.append((trainer.progress.step, who))
            return velocity(who, *inputs, **options)

        trainer.policy.velocity = remember
        trainer.train(resume=False)
        assert set(asked) == {(0, "current"), (1, "current"), (2, "old"), (3, "old")}

    def test_published_is_the_average(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 2, "averages.evaluation_decay": 0.9})
        train(config, tmp_path)
        path = tmp_path / "checkpoints" / "step-000002"
        published, trainer = (
            load_file(path / "pytorch_lora_weights.safetensors"),
            load_file(path / "trainer.safetensors"),
        )
        name = "transformer_blocks.0.attn.to_q.lora_B"
        assert torch.equal(published[f"transformer.{name}.weight"], trainer[f"average/{name}.policy.weight"])
        assert not torch.equal(published[f"transformer.{name}.weight"], trainer[f"trained/{name}.policy.weight"])
        assert whose_weights(path) == "average"

    def test_before_the_average_moves_the_trained_weights_are_published_and_said_to_be(self, model_folder, tmp_path):
        """Else a run shorter than the interval would publish the untouched base: adapters of zeros."""
        changes = {"averages.evaluation_every": 3, "checkpoint.every": 2, "samples.every": 2}
        notes, measured = [], []

        def evaluate(step, policy):
            measured.append((step, policy.published))
            return {"ocr@1": {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}}

        listeners = {"on_note": notes.append, "evaluate": evaluate}
        train(small_config(model_folder, {"steps": 2, **changes}), tmp_path / "run", **listeners)
        path = tmp_path / "run" / "checkpoints" / "step-000002"
        published, state = load_file(path / "pytorch_lora_weights.safetensors"), load_file(path / "trainer.safetensors")
        name = "transformer_blocks.0.attn.to_q.lora_B"
        assert published[f"transformer.{name}.weight"].any()
        assert torch.equal(published[f"transformer.{name}.weight"], state[f"trained/{name}.policy.weight"])
        assert not state[f"average/{name}.policy.weight"].any()
        assert whose_weights(path) == "trained"
        assert news(notes) == [
            "the checkpoint of step 2 publishes the trained weights as they are: their average first moves at "
            "iteration 3 (averages.evaluation_every)"
        ]
        assert measured == [(0, "current"), (2, "current")]
        train(small_config(model_folder, {"steps": 4, **changes}), tmp_path / "run", **listeners)
        assert measured[2:] == [(4, "average")]
        assert whose_weights(tmp_path / "run" / "checkpoints" / "step-000004") == "average"
        train(small_config(model_folder, {"steps": 4, **changes}), tmp_path / "at once", **listeners)
        assert digest(tmp_path / "run", 4) == digest(tmp_path / "at once", 4)

    def test_a_run_without_an_average_publishes_what_it_trained_and_says_nothing(self, model_folder, tmp_path):
        notes = []
        config = small_config(model_folder, {"steps": 1, "averages.evaluation_decay": 0.0})
        train(config, tmp_path, on_note=notes.append)
        assert whose_weights(tmp_path / "checkpoints" / "step-000001") == "trained"
        assert news(notes) == []
