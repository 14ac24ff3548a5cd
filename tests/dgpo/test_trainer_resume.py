"""A run that was interrupted, killed or damaged ends as one that was left in peace."""

import os
import random
import signal
import time

import pytest

from tests.dgpo.run_files import news, steps
from tests.dgpo.training import digest, small_config, train, train_until_killed


class TestResume:
    """Killed with -9 and started again, a run ends with the weights of one that was left in peace, bit for bit."""

    @pytest.fixture(params=["lora", "full"])
    def config(self, request, model_folder):
        changes = {
            "training.method": request.param,
            "optimizer.learning_rate": 1e-3 if request.param == "lora" else 1e-4,
            "optimizer.warm_up": 3,
            "dgpo.clip": 0.01,
            "rollout.old_after": 3,
            "checkpoint.every": 2,
            "steps": 6,
        }
        return small_config(model_folder, changes)

    def run_until_killed(self, processes, config, folder, *, kill_in_save=None, kill_at_step=None, delay_s=0.0):
        process = processes.Process(target=train_until_killed, args=(config, folder, kill_in_save))
        process.start()
        if kill_at_step is not None:
            metrics = folder / "metrics.jsonl"
            while process.is_alive() and not (metrics.exists() and metrics.read_text().count("\n") >= kill_at_step):
                time.sleep(0.005)
            time.sleep(delay_s)
            os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=240)
        return process.exitcode

    def test_ends_with_the_same_weights(self, processes, config, tmp_path):
        train(config, tmp_path / "peace")
        folder, chance = tmp_path / "war", random.Random(7)
        assert self.run_until_killed(processes, config, folder, kill_in_save=2) == -signal.SIGKILL
        assert (
            self.run_until_killed(processes, config, folder, kill_at_step=3, delay_s=chance.uniform(0, 0.2))
            == -signal.SIGKILL
        )
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 99, "rew')  # as if it died in the middle of a line
        notes = []
        train(config, folder, on_note=notes.append)
        assert any("continuing from" in note for note in notes)
        assert digest(folder, 6) == digest(tmp_path / "peace", 6)
        kept = [{name: value for name, value in line.items() if name != "seconds"} for line in steps(folder)]
        assert kept == [
            {name: v for name, v in line.items() if name != "seconds"} for line in steps(tmp_path / "peace")
        ]
        assert [line["step"] for line in kept] == [1, 2, 3, 4, 5, 6]

    def test_goes_back_to_the_last_whole_checkpoint(self, model_folder, tmp_path):
        config = small_config(model_folder, {"checkpoint.every": 1, "steps": 3})
        train(config, tmp_path / "run")
        expected = digest(tmp_path / "run", 3)
        with (tmp_path / "run" / "checkpoints" / "step-000003" / "trainer.safetensors").open("r+b") as file:
            file.seek(2000)
            file.write(b"rust")
        notes = []
        train(config, tmp_path / "run", on_note=notes.append)
        damaged, continuing = news(notes)
        assert "damaged" in damaged
        assert "step-000002 at step 2" in continuing
        assert digest(tmp_path / "run", 3) == expected

    def test_a_finished_run_can_be_made_longer(self, model_folder, tmp_path):
        train(small_config(model_folder, {"steps": 2}), tmp_path / "run")
        train(small_config(model_folder, {"steps": 4}), tmp_path / "run")
        train(small_config(model_folder, {"steps": 4}), tmp_path / "at once")
        assert digest(tmp_path / "run", 4) == digest(tmp_path / "at once", 4)

    def test_asked_to_stop_saves_and_goes_on(self, model_folder, tmp_path):
        config = small_config(model_folder, {"steps": 3})
        done = []
        outcome = train(config, tmp_path / "run", on_step=done.append, stop_asked=lambda: len(done) == 1).outcome
        assert (outcome.kind, outcome.step, outcome.folder) == ("interrupted", 1, tmp_path / "run")
        assert "the same command goes on" in outcome.sentence
        assert [line["step"] for line in done] == [1]
        assert (tmp_path / "run" / "checkpoints" / "step-000001").is_dir()
        train(config, tmp_path / "run")
        train(config, tmp_path / "at once")
        assert digest(tmp_path / "run", 3) == digest(tmp_path / "at once", 3)

    def test_asked_to_stop_in_the_last_iteration_ends_as_usual(self, model_folder, tmp_path):
        outcome = train(small_config(model_folder, {"steps": 1}), tmp_path / "run", stop_asked=lambda: True).outcome
        assert (outcome.kind, outcome.step) == ("finished", 1)
        assert (tmp_path / "run" / "checkpoints" / "step-000001").is_dir()
