"""One batch ahead: which weights draw it, what is not waited for, and that stopping changes nothing."""

import threading
from concurrent.futures import Future
from typing import cast

import pytest
import torch
from typer.testing import CliRunner

from cli.commands import app
from dgpo.supervision.hooks import Hook
from rewards.pool import Scored, ScoringPool
from tests.dgpo.run_files import steps
from tests.dgpo.training import Judge, brightness, build_trainer, digest, small_config, train

AHEAD = {"rollout.ahead": 1, "optimizer.learning_rate": 1e-2, "checkpoint.every": 1}


def lines(folder):
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in steps(folder)]


@pytest.mark.parametrize("more", [{}, {"training.method": "full"}, {"rollout.old_after": 1, "rollout.merge": "never"}])
def test_a_run_that_is_stopped_and_goes_on_is_the_run_that_it_would_have_been(model_folder, tmp_path, more):
    config = small_config(model_folder, {**AHEAD, "steps": 4, **more})
    train(config, tmp_path / "peace")
    done = []
    for count in (1, 3):
        train(config, tmp_path / "cut", on_step=done.append, stop_asked=lambda count=count: len(done) == count)
    train(config, tmp_path / "cut")
    assert digest(tmp_path / "cut", 4) == digest(tmp_path / "peace", 4)
    assert lines(tmp_path / "cut") == lines(tmp_path / "peace")
    assert {line["passes"]["rollout"] for line in lines(tmp_path / "peace")} == {config.sampling.steps}
    train(small_config(model_folder, {**AHEAD, "steps": 5, **more}), tmp_path / "cut")
    train(small_config(model_folder, {**AHEAD, "steps": 5, **more}), tmp_path / "longer")
    assert digest(tmp_path / "cut", 5) == digest(tmp_path / "longer", 5)


class Drawn(Hook):
    """The latents that each iteration learned from."""

    def __init__(self):
        self.latents = []

    def begin(self, training, moment):
        learn = training.algorithm.learn

        def remember(batch, *rest):
            self.latents.append(batch.x0_BCHW.clone())
            return learn(batch, *rest)

        training.algorithm.learn = remember  # pyright: ignore[reportAttributeAccessIssue]


def test_a_batch_is_drawn_by_the_weights_before_the_last_learning(model_folder, tmp_path):
    """The first two by those of the start; the third by what the first has taught."""
    ahead, now = Drawn(), Drawn()
    train(small_config(model_folder, {**AHEAD, "steps": 3}), tmp_path / "ahead", hooks=[ahead])
    train(small_config(model_folder, {**AHEAD, "rollout.ahead": 0, "steps": 2}), tmp_path / "now", hooks=[now])
    still = Drawn()
    frozen = {**AHEAD, "rollout.ahead": 0, "steps": 3, "optimizer.learning_rate": 1e-30, "optimizer.weight_decay": 0.0}
    train(small_config(model_folder, frozen), tmp_path / "still", hooks=[still])
    assert torch.equal(ahead.latents[0], now.latents[0])
    torch.testing.assert_close(ahead.latents[1], still.latents[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ahead.latents[1], now.latents[1], atol=1e-4)
    assert not torch.allclose(ahead.latents[2], still.latents[2], atol=1e-4)


class Slow(Judge):
    """Gives the scores of a batch only once another was handed over, or it is the last."""

    def __init__(self, specs, batches):
        super().__init__(specs, brightness)
        self.left, self.waiting = batches, []

    def submit(self, images, prompts):
        future: Future[Scored] = Future()
        self.waiting.append((future, super().submit(images, prompts).result()))
        self.left -= 1
        while len(self.waiting) > (1 if self.left else 0):
            earlier, scored = self.waiting.pop(0)
            earlier.set_result(scored)
        return future


def test_the_next_batch_is_drawn_before_scores_are_waited_for(model_folder, tmp_path):
    config = small_config(model_folder, {**AHEAD, "steps": 3})
    trainer = build_trainer(config, tmp_path / "specs")
    pool = cast(ScoringPool, Slow(trainer.specs, batches=3))
    done = threading.Thread(target=train, args=(config, tmp_path / "run"), kwargs={"pool": pool}, daemon=True)
    done.start()
    done.join(timeout=120)
    assert not done.is_alive()
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3]


def test_an_iteration_that_cannot_be_scored_is_drawn_again_as_it_was(model_folder, tmp_path):
    config = small_config(model_folder, {**AHEAD, "steps": 4})
    train(config, tmp_path / "peace")
    seen = []

    def fails_once(image, prompt):
        seen.append(1)
        return None if len(seen) == 2 * config.images + 1 else brightness(image, prompt)

    with pytest.raises(Exception, match="could not be scored in iteration 3"):
        train(config, tmp_path / "cut", value=fails_once)
    train(config, tmp_path / "cut")
    assert digest(tmp_path / "cut", 4) == digest(tmp_path / "peace", 4)


def test_a_results_folder_has_nothing_to_be_ahead_of(tmp_path):
    words = ["train", "--reward", "ocr", "--from", str(tmp_path), "--set", "rollout.ahead=1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "rollout.ahead draws an iteration ahead" in done.stderr
