"""Tables of times: those of the released code, and those of the model's own scheduler whatever it is set to."""

# Annotations in diffusers are narrower than what its functions take and give.

import math
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import retrieve_timesteps

from dgpo.models.dynamic_shift import TokenShift
from dgpo.schedule import build_schedule
from rewards.errors import UsageError

SD3 = {"num_train_timesteps": 1000, "shift": 3.0}
UNIPC = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
FLOW = "FlowMatchEulerDiscreteScheduler"


def test_dpm_table_is_the_released_one_and_the_clip_takes_its_first_seven():
    times = build_schedule("dpm++", SD3, 10).times
    assert [round(1000 * time) for time in times] == [999, 963, 922, 874, 817, 749, 666, 562, 428, 249]
    assert [round(1000 * time) for time in times if time >= 0.66] == [999, 963, 922, 874, 817, 749, 666]
    assert len([time for time in times if time >= 0.8]) == 5  # GenEval's


def test_euler_table():
    """Diffusers shifts 1000 points, takes 10 evenly from their range, and shifts those once more.

    Without shift the points are even from 1 to 1/1000: 1 - 0.111 i. With shift 3 the range ends at 0.003 / 1.002 and x
    becomes 3 x / (1 + 2 x).
    """
    plain = build_schedule("euler", {"num_train_timesteps": 1000, "shift": 1.0}, 10).times
    assert plain == pytest.approx([1 - 0.111 * i for i in range(10)], abs=1e-6)
    lowest = 0.003 / 1.002
    even = [1 - (1 - lowest) * i / 9 for i in range(10)]
    shifted = build_schedule("euler", SD3, 10).times
    assert shifted == pytest.approx([3 * x / (1 + 2 * x) for x in even], abs=1e-6)
    assert shifted[-1] == pytest.approx(0.00893, abs=1e-5)


def config_of(scheduler):
    """As `scheduler_config.json` holds it."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


@pytest.mark.parametrize("steps", [1, 4, 28])
@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 3.0},
        {"shift": 3.0, "use_karras_sigmas": True},
        {"shift": 3.0, "use_exponential_sigmas": True},
        {"shift_terminal": 0.02, "shift": 2.0},
        {"use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "time_shift_type": "linear", "max_shift": 2.0, "base_image_seq_len": 64},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_euler_visits_the_times_of_the_models_own_scheduler(settings: dict[str, Any], steps):
    """Bit for bit, as Stable Diffusion 3's pipeline sets it; with mu for 1,024 patches, an image of 512 pixels."""
    if steps == 1 and "shift_terminal" in settings:
        settings = {"shift": 2.0}
    own: Any = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    dynamic = own.config.use_dynamic_shifting
    low, high = own.config.base_shift, own.config.max_shift
    first, last = own.config.base_image_seq_len, own.config.max_image_seq_len
    mu = {"mu": low + (high - low) * (1024 - first) / (last - first)} if dynamic else {}
    times, _ = retrieve_timesteps(own, steps, **mu)
    ours = build_schedule("euler", config_of(own), steps, dynamic_shift=TokenShift(1024))
    torch.testing.assert_close(ours.solver.sigmas, own.sigmas, rtol=0, atol=1e-7 if dynamic else 0)
    torch.testing.assert_close(ours.solver.timesteps, times, rtol=0, atol=1e-4 if dynamic else 0)


def test_dynamic_shift_by_hand():
    """mu = 0.5 + (1.15 - 0.5) (1024 - 256) / (4096 - 256) = 0.63; then t becomes s t / (1 + (s - 1) t), s = e^0.63."""
    config = {"_class_name": FLOW, "use_dynamic_shifting": True}
    shift = math.exp(0.63)
    shifted = [shift * t / (1 + (shift - 1) * t) for t in (1.0, 0.667, 0.334, 0.001)]
    assert build_schedule("euler", config, 4, dynamic_shift=TokenShift(1024)).times == pytest.approx(shifted, abs=1e-6)
    larger = build_schedule("euler", config, 4, dynamic_shift=TokenShift(4096)).times
    assert larger[1] > shifted[1]
    dpm = diffusers.DPMSolverMultistepScheduler(**{**UNIPC, "flow_shift": shift})
    dpm.set_timesteps(4)
    ours = build_schedule("dpm++", config, 4, dynamic_shift=TokenShift(1024))
    torch.testing.assert_close(ours.solver.sigmas, dpm.sigmas, rtol=0, atol=1e-6)
    linear = build_schedule("dpm++", config | {"time_shift_type": "linear"}, 4, dynamic_shift=TokenShift(1024))
    assert linear.solver.config.flow_shift == pytest.approx(0.63)


@pytest.mark.parametrize(
    ("family", "even"),
    [
        ("UniPCMultistepScheduler", (1.0, 0.75025, 0.5005, 0.25075)),  # from 1 to 0.001, the last left out
        ("DPMSolverMultistepScheduler", (0.999, 0.74925, 0.4995, 0.24975)),  # from 0.999 to 0, the last left out
    ],
)
def test_flow_shift_is_a_shift_and_is_applied_once(family, even):
    own = getattr(diffusers, family)(**UNIPC)
    own.set_timesteps(4)
    euler, dpm = (build_schedule(sampler, config_of(own), 4) for sampler in ("euler", "dpm++"))
    assert torch.equal(euler.solver.sigmas, own.sigmas)
    assert euler.times == pytest.approx([3 * t / (1 + 2 * t) for t in even], abs=2e-6)
    assert dpm.times == build_schedule("dpm++", SD3, 4).times


def test_unipc_takes_its_dynamic_shift_once():
    own: Any = diffusers.UniPCMultistepScheduler(**{**UNIPC, "use_dynamic_shifting": True})
    own.set_timesteps(6, mu=0.5 + (1.16 - 0.5) * (300 - 256) / (4096 - 256))
    ours = build_schedule("euler", config_of(own), 6, dynamic_shift=TokenShift(300))
    torch.testing.assert_close(ours.solver.sigmas, own.sigmas, rtol=0, atol=1e-7)


def test_two_stage_scheduler_has_each_time_once():
    own = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
    ours = build_schedule("euler", config_of(own), 5)
    assert torch.equal(ours.solver.sigmas, build_schedule("euler", SD3, 5).solver.sigmas)


@pytest.mark.parametrize("sampler", ["euler", "dpm++"])
@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"_class_name": "PNDMScheduler"}, r"is a PNDMScheduler, whose times cannot be followed; those of FlowMatch"),
        ({"stochastic_sampling": True}, r"sets stochastic_sampling to True, which the sampler .* cannot follow"),
        ({"invert_sigmas": True}, r"sets invert_sigmas to True"),
        ({"sharpness": 2}, r"sets sharpness to 2, which the sampler .* Mend it in scheduler/scheduler_config\.json"),
        ({"time_shift_type": "cubic"}, r"cannot be built as scheduler/scheduler_config\.json says"),
        ({"shift": "three"}, r"cannot be built as"),
        ({"shift": -1.0}, r"are no times of a rectified flow"),
        ({"_class_name": "UniPCMultistepScheduler", "shift": None}, r"is not set for a rectified flow"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", **UNIPC, "shift": None, "final_sigmas_type": "sigma_min"},
            "final",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(sampler, settings, hint):
    with pytest.raises(UsageError, match=hint):
        build_schedule(sampler, {"_class_name": FLOW, **SD3, **settings}, 4)


@pytest.mark.parametrize(
    "setting", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "shift_terminal"]
)
def test_tables_that_dpm_does_not_have_are_refused_with_the_one_that_does(setting):
    with pytest.raises(UsageError, match=rf"sets {setting} to .*dpm\+\+ cannot follow\. sampling\.sampler=euler can"):
        build_schedule("dpm++", {"_class_name": FLOW, **SD3, setting: 0.1 if setting == "shift_terminal" else True}, 4)


def test_sigmas_beyond_one_are_no_flows():
    """Karras' spacing in DPM-Solver's scheduler is one of variances, flow or not."""
    with pytest.raises(UsageError, match=r"times from 157 to 0\.01, which are no times of a rectified flow"):
        build_schedule("euler", {"_class_name": "DPMSolverMultistepScheduler", **UNIPC, "use_karras_sigmas": True}, 4)


@pytest.mark.parametrize("sampler", ["euler", "dpm++"])
def test_a_shift_by_size_is_followed_only_where_the_family_says_how(sampler):
    config = {"_class_name": FLOW, "use_dynamic_shifting": True}
    with pytest.raises(UsageError, match=r"sets use_dynamic_shifting to True, which the sampler .* cannot follow"):
        build_schedule(sampler, config, 4)
