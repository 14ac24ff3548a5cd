import json
import math
import os
import random
import signal
import socket
import statistics
import time
from concurrent.futures import Future
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from dgpo.advantage import mix_rewards
from dgpo.checkpoint import checkpoints, whose_weights
from dgpo.parallel import Ranks
from dgpo.plan import planned_passes
from dgpo.reward_choice import choose_rewards
from dgpo.sections import Advantage
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.registry import card_of
from rewards.score import Score
from tests.dgpo.training import (
    PROMPTS,
    brightness,
    build_trainer,
    digest,
    small_config,
    train,
    train_as_rank,
    train_until_killed,
)


def trained_weights(folder, step):
    path = folder / "checkpoints" / f"step-{step:06d}" / "trainer.safetensors"
    return {name: tensor.double() for name, tensor in load_file(path).items() if name.startswith("trained/")}


def news(notes):
    """Without what every training says as it begins."""
    return [note for note in notes if not note.startswith(("precision: ", "training in ", "continuing in "))]


def flat(tensors):
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def steps(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "reward" in line]


def train_processes(processes, size, config, folder):
    """A training in several processes, by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [processes.Process(target=train_as_rank, args=(rank, size, port, config, folder)) for rank in range(size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=240)
    assert [rank.exitcode for rank in ranks] == [0] * size


class TestRanks:
    """One process against two."""

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"groups": 2, "group_size": 4}, id="even"),
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
            parameters[0].grad.fill_(math.nan)


class Scaling(Ranks):
    """Multiplies every gradient."""

    def __init__(self, scale):
        super().__init__(cpu=True)
        self.scale = scale

    def sum_gradients(self, parameters):
        for parameter in parameters:
            parameter.grad *= self.scale


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
        assert moves == [("old", pytest.approx(d)) for d in (0.1, 0.2, 0.25, 0.25)]

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

    def test_more_processes_than_images_train_as_one_does(self, processes, model_folder, tmp_path):
        config = small_config(model_folder, {"groups": 1, "group_size": 2, "steps": 2})
        train_processes(processes, 3, config, tmp_path / "three")
        train(config, tmp_path / "one")
        for alone, together in zip(steps(tmp_path / "one"), steps(tmp_path / "three"), strict=True):
            assert together["times"] == alone["times"]
            assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
            assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)


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
