"""What holds for every algorithm, through the same loop: processes, micro-batches, resumption, passes, failures."""

import math
import os
import random
import signal
import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from dgpo.algorithms.algorithm import ALGORITHMS
from dgpo.plan import planned_passes
from dgpo.supervision.hooks import Hook
from rewards.errors import SetupError
from tests.dgpo.run_files import flat, steps, trained_weights
from tests.dgpo.training import (
    brightness,
    build_trainer,
    digest,
    small_config,
    train,
    train_processes,
    train_until_killed,
)

# Every algorithm with what it has of its own: an old policy, several optimiser steps, a window, a divergence.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "dgpo": {"dgpo.clip": 0.5, "dgpo.kl": 0.01},
    "dgpo-pairs": {"dgpo.weights": "pairs"},
    "dgpo-sde": {"rollout.noise": "sde", "dgpo.weights": "uniform"},
    "flow-grpo": {"flow_grpo.clip": 0.1},
    "flow-grpo-fast": {
        "rollout.noise": "cps", "rollout.window": 2, "rollout.window_range": (0, 3), "flow_grpo.guard": "image",
        "flow_grpo.updates": 1, "flow_grpo.clip": 0.1,
    },
    "diffusion-dpo": {"diffusion_dpo.times": 2},
    "diffusion-dpo-code": {
        "diffusion_dpo.draw": "reference", "diffusion_dpo.refresh": 2, "diffusion_dpo.choice": "logit-normal",
        "diffusion_dpo.skip_equal": False, "diffusion_dpo.times": 2,
    },
    "nft": {"nft.times": 3, "nft.updates": 2, "nft.old_growth": 0.2},
    "awm": {"awm.times": 2, "awm.fast_growth": 0.2},
    "awm-off-policy": {"awm.times": 2, "awm.updates": 2, "awm.ratio": "image", "rollout.noise": "sa"},
}  # fmt: skip
CLOSE = 1e-5
# Every day one variant of each algorithm, and one of them all in processes of their own, which take long to start.
EVERY_DAY_OR_SLOW = [
    pytest.param(name, id=name, marks=() if name in ALGORITHMS and name != "dgpo" else pytest.mark.slow)
    for name in VARIANTS
]
PROCESSES = [pytest.param(name, id=name, marks=() if name == "nft" else pytest.mark.slow) for name in VARIANTS]


def config_of(model, variant, **changes):
    name = max((name for name in ALGORITHMS if variant.startswith(name)), key=len)
    common = {"algorithm": name, "sampling.sampler": "euler", "sampling.steps": 5}
    return small_config(model, {**common, **VARIANTS[variant], **changes})


@pytest.fixture(params=EVERY_DAY_OR_SLOW)
def variant(request):
    return request.param


def movement(folder, start, step):
    return flat(trained_weights(folder, step)) - start


@pytest.fixture
def start(model_folder, tmp_path):
    """The trained weights before anything is learned, in the order of a checkpoint's."""
    trained = build_trainer(small_config(model_folder), tmp_path / "start").policy.trained
    return flat({f"trained/{name}": p.detach().double().clone() for name, p in trained.items()})


def agree(one, other, start, step):
    """Two runs learned the same: what they report, and where they went, up to the order of sums."""
    for alone, together in zip(steps(one), steps(other), strict=True):
        assert together["reward"] == pytest.approx(alone["reward"], rel=CLOSE)
        assert together["passes"] == alone["passes"]
        assert together["times"] == alone["times"]
        assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)
    there, here = movement(one, start, step), movement(other, start, step)
    assert (here - there).norm() < 2e-3 * there.norm()


ADAMW = {"optimizer.learning_rate": 0.01, "optimizer.epsilon": 1e-3}


@pytest.mark.parametrize("variant", PROCESSES)
@pytest.mark.parametrize("processes_count", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_any_number_of_processes_learns_what_one_does(
    processes, model_folder, tmp_path, variant, start, processes_count
):
    """Three images a group on three processes, and four on two: groups are cut anywhere."""
    sizes = {"groups": 3, "group_size": 3} if processes_count == 3 else {"groups": 2, "group_size": 4}
    changes = {"steps": 2, **ADAMW, **sizes}
    train(config_of(model_folder, variant, **changes, **{"optimizer.micro_batch": 12}), tmp_path / "one")
    train_processes(processes, processes_count, config_of(model_folder, variant, **changes), tmp_path / "several")
    agree(tmp_path / "one", tmp_path / "several", start, 2)


def test_one_batch_is_its_micro_batches(model_folder, tmp_path, variant, start):
    """A group that is larger than a micro-batch costs DGPO and Diffusion-DPO one more forward; here none is."""
    changes = {"steps": 2, "groups": 3, "group_size": 3, **ADAMW}
    train(config_of(model_folder, variant, **changes, **{"optimizer.micro_batch": 9}), tmp_path / "whole")
    train(config_of(model_folder, variant, **changes, **{"optimizer.micro_batch": 3}), tmp_path / "parts")
    agree(tmp_path / "whole", tmp_path / "parts", start, 2)


@pytest.mark.parametrize("variant", [one for one in PROCESSES if not str(one.id).startswith("dgpo")])
def test_killed_and_started_again_it_ends_with_the_same_bits(processes, model_folder, tmp_path, variant):
    """Snapshots included: the digest is of every tensor of a checkpoint."""
    config = config_of(model_folder, variant, **{"steps": 4, "checkpoint.every": 1})
    train(config, tmp_path / "peace")
    folder, chance = tmp_path / "war", random.Random(3)
    process = processes.Process(target=train_until_killed, args=(config, folder, None))
    process.start()
    metrics = folder / "metrics.jsonl"
    while process.is_alive() and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.1))
    os.kill(process.pid, signal.SIGKILL)
    process.join(timeout=240)
    train(config, folder)
    assert digest(folder, 4) == digest(tmp_path / "peace", 4)


def test_passes_are_those_that_were_planned(model_folder, tmp_path, variant):
    config = config_of(model_folder, variant, **{"steps": 1, "sampling.guidance": 1.5})
    trained = train(config, tmp_path)
    (line,) = steps(tmp_path)
    assert line["passes"] == pytest.approx(planned_passes(config, trained.policy.model.passes))


def test_groups_without_variance_teach_nothing_and_cost_nothing(model_folder, tmp_path, variant):
    """All groups equal: nothing moves. One of two: half of the passes."""
    config = config_of(model_folder, variant, **{"steps": 1, "diffusion_dpo.skip_equal": True}
                       if variant.startswith("diffusion") else {"steps": 1})  # fmt: skip
    still = train(config, tmp_path / "equal", value=lambda image, prompt: 0.5)
    assert still.progress.updates == 0
    (line,) = steps(tmp_path / "equal")
    assert line["dead_groups"] == 1
    assert {name: count for name, count in line["passes"].items() if count} == {"rollout": line["passes"]["rollout"]}
    seen = []

    def value(image, prompt):
        seen.append(prompt)
        return brightness(image, prompt) if prompt == seen[0] else 0.5

    half = train(config, tmp_path / "half", value=value)
    (line,) = steps(tmp_path / "half")
    assert line["dead_groups"] == 0.5
    planned = planned_passes(config, half.policy.model.passes, live_share=0.5)
    assert line["passes"] == pytest.approx(planned)


def test_a_failed_score_is_masked(model_folder, tmp_path, variant):
    """The run learns as if the image were not there: its own value, whatever it would have been, changes no bit."""
    changes = {"steps": 1, "groups": 1, "max_failed": 1}
    digests = set()
    for name in ("one", "other"):
        judged = []

        def value(image, prompt, judged=judged):
            judged.append(brightness(image, prompt))
            return None if len(judged) == 3 else judged[-1]

        train(config_of(model_folder, variant, **changes), tmp_path / name, value=value)
        (line,) = steps(tmp_path / name)
        assert line["failed"] == 1
        assert math.isfinite(line["loss"])
        digests.add(digest(tmp_path / name, 1))
    assert len(digests) == 1


def test_a_loss_that_is_no_number_stops_before_anything_moves_and_names_the_image(model_folder, tmp_path, variant):
    """The third image's latent is spoiled after it was drawn and scored."""
    config = config_of(model_folder, variant, **{"steps": 1, "groups": 1})
    before: dict[str, torch.Tensor] = {}

    def spoil(trainer):
        draw = trainer.source.draw

        def drawn(step):
            found = draw(step)
            batch = found.batch
            batch.x0_BCHW[2] = math.nan
            if batch.trajectory is not None:
                batch.trajectory.states_SBCHW[1:, 2] = math.nan
            before.update({name: p.detach().clone() for name, p in trainer.policy.trained.items()})
            return found

        trainer.source.draw = drawn

    class Spoil(Hook):
        def begin(self, training, moment):
            spoil(training)

    values = iter((0.1, 0.2, 0.9, 0.3))
    with pytest.raises(SetupError, match="no step was taken with it; the loss is not finite of image 2"):
        train(config, tmp_path, value=lambda image, prompt: next(values), hooks=[Spoil()])
    saved = trained_weights(tmp_path, 0)
    assert all(torch.equal(saved[f"trained/{name}"], tensor) for name, tensor in before.items())


def test_on_policy_the_ratio_is_exactly_1(model_folder, tmp_path):
    """Rollout and training go through the same forward, batch by batch."""
    changes = {"steps": 1, "flow_grpo.updates": 1, "flow_grpo.kl": 0.0}
    for noise in ("sde", "cps"):
        config = config_of(model_folder, "flow-grpo", **changes, **{"rollout.noise": noise})
        train(config, tmp_path / noise)
        (line,) = steps(tmp_path / noise)
        assert line["ratio"] == 1.0
        assert line["clipped"] == 0.0
        assert line["gradient_norm"] > 0


def test_the_stochastic_rollout_draws_other_images_than_the_ode(model_folder, tmp_path):
    rewards = {}
    for noise in ("none", "sde", "cps"):
        config = config_of(model_folder, "dgpo", **{"steps": 1, "rollout.noise": noise})
        train(config, tmp_path / noise)
        rewards[noise] = steps(tmp_path / noise)[0]["reward"]
    assert len(set(rewards.values())) == 3
