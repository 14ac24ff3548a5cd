"""Schedules and choices of the published codes: decays, times, windows."""

import json

import pytest
import torch

from dgpo.algorithms import awm, dgpo, nft
from dgpo.sections import Rollout
from dgpo.windows import stochastic_steps
from tests.dgpo.algorithms.recorded import GOLDEN

DECAYS = json.loads((GOLDEN / "decays.json").read_text())
TIMES = json.loads((GOLDEN / "times.json").read_text())
WINDOWS = json.loads((GOLDEN / "windows.json").read_text())
NFT_TYPES = {
    "0": nft.Settings(old_decay=0.0),
    "1": nft.Settings(),
    "2": nft.Settings(old_decay=0.999, old_growth=0.0075, old_flat=75),
}


@pytest.mark.parametrize("kind", NFT_TYPES)
def test_nfts_old_policy(kind):
    for step, decay in DECAYS["nft_old_decay_by_step"][kind].items():
        assert nft.old_decay(NFT_TYPES[kind], int(step)) == pytest.approx(decay, abs=1e-12), step


def test_dgpos_old_policy():
    """By the number of optimiser steps before, and what it comes to over a few of them, of which the first copies."""
    settings = dgpo.Settings()
    for step, decay in DECAYS["dgpo_old_decay_by_step"].items():
        assert dgpo.old_decay(settings, int(step)) == pytest.approx(decay, abs=1e-12), step
    run = DECAYS["dgpo_old_run"]
    old = run["theta"][0]
    for before, (theta, expected) in enumerate(zip(run["theta"][1:], run["old"][1:], strict=True), run["first_step"]):
        decay = dgpo.old_decay(settings, before)
        old = [decay * one + (1 - decay) * other for one, other in zip(old, theta, strict=True)]
        assert old == pytest.approx(expected, abs=2e-6)


def test_awms_fast_average():
    settings = awm.Settings()
    for step, decay in DECAYS["awm_fast_decay_by_step"].items():
        assert awm.fast_decay(settings, int(step)) == pytest.approx(decay, abs=1e-12), step


STRATA: dict[str, awm.Strata] = {
    "discrete": "all",
    "discrete_wo_init": "without_first",
    "discrete_with_init": "with_first",
}


@pytest.mark.parametrize("case", TIMES["awm"], ids=lambda case: case["kind"])
def test_awms_times(case):
    settings = awm.Settings(times=case["count"], share=case["fraction"], strata=STRATA[case["kind"]])
    bounds = awm.strata_of(settings, case["steps"])
    uniform = case["u"] if len(case["u"]) == len(bounds) else [0.0, *case["u"]]
    chosen = [awm.choose(low, high, u) for (low, high), u in zip(bounds, uniform, strict=True)]
    assert chosen == case["index"]


@pytest.mark.parametrize("case", WINDOWS["mix_grpo"], ids=lambda case: case["name"])
def test_mix_grpos_window_moves(case):
    settings = case["settings"]
    end = settings["max_timesteps"]
    rollout = Rollout(window=settings["group_size"], window_range=(0, end), window_every=settings["iters_per_group"])
    windows = {one["from_iteration"]: one["window"] for one in case["windows"]}
    current: list[int] = []
    for iteration in range(case["iterations"]):
        current = windows.get(iteration, current)
        if not current:
            break  # the code trains on nothing there, and ours begins again
        assert list(stochastic_steps(rollout, 25, iteration=iteration)) == current, iteration


@pytest.mark.parametrize("case", WINDOWS["flow_grpo_fast"], ids=lambda case: f"{case['size']} of {case['range']}")
def test_flow_grpo_fasts_window_lies_anywhere_in_its_range(case):
    size, (first, end) = case["size"] or None, case["range"]
    rollout = Rollout(window=size, window_range=(first, end))
    drawn = {tuple(stochastic_steps(rollout, case["steps"], iteration=iteration)) for iteration in range(300)}
    if size is None:
        (only,) = case["draws"]
        assert drawn == {tuple(range(only["start"], only["end"]))}
        return
    assert {(one[0], one[-1] + 1) for one in drawn} == {(start, start + size) for start in range(first, end - size + 1)}
    assert {(one["start"], one["end"]) for one in case["draws"]} <= {(one[0], one[-1] + 1) for one in drawn}


def test_a_window_is_that_of_its_iteration_alone():
    rollout = Rollout(window=2, window_range=(0, 8))
    assert stochastic_steps(rollout, 10, seed=3, iteration=5) == stochastic_steps(rollout, 10, seed=3, iteration=5)
    starts = torch.tensor([stochastic_steps(rollout, 10, seed=3, iteration=i)[0] for i in range(2000)])
    assert starts.double().mean().item() == pytest.approx(3.0, abs=0.15)
