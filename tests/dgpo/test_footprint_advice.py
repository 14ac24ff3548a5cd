"""Which settings make a training fit, said and true."""

import re
from functools import cache

import pytest

from dgpo.footprint import Footprint
from dgpo.footprint_advice import describe_footprint
from tests.dgpo.models.tiny_folders import save_tiny
from tests.dgpo.test_footprint import outlined, small_config

NAME = "FluxPipeline"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(NAME, tmp_path_factory.mktemp("models") / "flux")


@cache
def plan(folder, *, gpu=True, **training) -> Footprint:
    return outlined(folder, small_config(NAME, **training), gpu=gpu)


def conclude(footprint, room):
    return describe_footprint(footprint, room, "this GPU", 2)[-1]


def test_it_says_what_holds_how_much(folder):
    held, stages, conclusion = describe_footprint(plan(folder), 2**34, "this GPU", 2)
    assert held.startswith("memory of each of 2 processes, without rewards, in GiB: CUDA 1.5; together 1.5")
    for part in (r"reading prompts \S+ \(text encoders\)", "drawing 3 images", "decoding 3 images"):
        assert re.search(part, stages)
    assert re.search(r"learning from 4 images \S+ \(\S+ with training.checkpointing\)", stages)
    assert conclusion.endswith("(decoding), of 16.0 that this GPU has")


def test_nothing_is_said_of_settings_where_all_fits(folder):
    footprint = plan(folder)
    assert "training." not in conclude(footprint, footprint.most)
    assert conclude(plan(folder, checkpointing=True), 2**40).endswith("it fits too")


def test_fewer_images_at_a_time_fit_as_it_says(folder):
    footprint = plan(folder)
    decoding = footprint.stages["decoding"]
    assert footprint.largest == "decoding"
    said = conclude(footprint, footprint.most - decoding.size // 3)
    assert "For decoding: rollout.micro_batch=2." in said
    assert footprint.stage("decoding", 2).size <= decoding.size * 2 / 3 < footprint.stage("decoding", 3).size


def test_checkpointing_is_named_where_it_helps_and_does(folder):
    footprint = plan(folder)
    images, held = footprint.stages["learning"].images, footprint.held_in_all
    recomputed = footprint.stage("learning", images, checkpointing=True).size
    assert recomputed < footprint.stages["learning"].size
    said = conclude(footprint, held + recomputed)
    assert "For learning: training.checkpointing=true" in said
    assert "optimizer.micro_batch=" in said
    assert plan(folder, checkpointing=True).stages["learning"].size == recomputed


def test_text_encoders_make_room_for_themselves(folder):
    footprint = plan(folder)
    room = footprint.held_in_all + footprint.stages["reading prompts"].size - 1
    assert "For reading prompts: training.offload=true." in conclude(footprint, room)
    assert plan(folder, offload=True).stages["reading prompts"].size < footprint.stages["reading prompts"].size
    assert "reading prompts" not in plan(folder, gpu=False).stages
    assert plan(folder, gpu=False).held["text encoders"] == footprint.stages["reading prompts"].size


def test_what_is_held_takes_less_in_fewer_bits_or_as_adapters(folder):
    footprint, held = plan(folder), plan(folder).held_in_all
    saved = footprint.saved_by("int8")
    assert plan(folder, quantize="int8").held_in_all == held - saved
    assert 0 < saved < footprint.saved_by("nf4")
    assert "too much already: training.quantize=int8, or a device with more." in conclude(footprint, held - saved)
    assert "too much already: training.quantize=nf4, or" in conclude(footprint, held - saved - 1)
    assert "too much already: a device with more." in conclude(footprint, held // 2)
    full = plan(folder, method="full")
    assert "too much already: training.method=lora, or" in conclude(full, full.held_in_all)


def test_all_weights_cost_their_copies_gradients_and_averages(folder):
    held = plan(folder, method="full").held
    weights = held["trained weights"]
    assert held["network"] == 0
    assert (held["gradients"], held["optimiser"]) == (weights, 2 * weights)
    assert held["copies of them"] == 3 * weights  # the reference, the old policy, and the average that is evaluated
    assert plan(folder).held["copies of them"] == 2 * plan(folder).held["adapters"]


def test_activations_are_kept_where_there_is_room_for_them(folder):
    """Of a device, 85 % may be planned with."""
    footprint = plan(folder, checkpointing="auto")
    images = footprint.stages["learning"].images
    kept = footprint.held_in_all + footprint.stage("learning", images, checkpointing=False).size
    for room, recomputes in ((int(kept / 0.84), False), (int(kept / 0.86), True)):
        chosen = plan(folder, checkpointing="auto")
        said = chosen.settle_checkpointing(room)
        assert chosen.config.training.checkpointing is recomputes
        assert f"training.checkpointing={str(recomputes).lower()}" in said
        assert chosen.stages["learning"].size == chosen.stage("learning", images, checkpointing=recomputes).size
