# Annotations in diffusers and transformers are narrower than what their functions take and give.

from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from dgpo.checkpoint import publish_weights, read_published
from dgpo.load import load_model
from dgpo.noise import seeded_noise
from dgpo.paths import guide
from dgpo.policy import ADAPTER, adapted_layers
from dgpo.sample import draw_images
from dgpo.sections import Sampling
from rewards.errors import UsageError
from tests.dgpo.training import PROMPTS, stir

METHODS = ("lora", "full")


@pytest.fixture
def question():
    """Two latents, their times, and a way to ask a policy for their velocities."""
    x, sigma = seeded_noise((2, 8, 8, 16), "x"), torch.tensor([0.9, 0.4])

    def ask(policy, who, **options):
        with torch.no_grad():
            conditioning = policy.model.encode([prompt.text for prompt in PROMPTS[:2]])
            return policy.velocity(who, x, sigma, conditioning, purpose="current", **options)

    return ask


def base_velocity(model_folder, dtype, autocast):
    model = load_model(str(model_folder), dtype=dtype, device=torch.device("cpu"), text_length=0)
    x, sigma = seeded_noise((2, 8, 8, 16), "x"), torch.tensor([0.9, 0.4])
    conditioning = model.encode([prompt.text for prompt in PROMPTS[:2]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model.velocity(x, sigma, conditioning).float()


def step_down(policy):
    """A few optimiser steps on nothing in particular."""
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-2)
    for seed in range(2):
        conditioning = policy.model.encode([PROMPTS[0].text])
        x = seeded_noise((1, 8, 8, 16), seed)
        policy.velocity("current", x, torch.tensor([0.7]), conditioning, purpose="current").square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_reference_is_the_base_model_bit_for_bit_after_training(make_policy, model_folder, question, method, dtype):
    policy, _ = make_policy({"training.method": method, "training.dtype": dtype})
    held = "fp32" if method == "full" else dtype
    base = base_velocity(model_folder, held, autocast=dtype == "bf16")
    assert torch.equal(question(policy, "reference"), base)
    assert torch.equal(question(policy, "current"), base)
    step_down(policy)
    assert torch.equal(question(policy, "reference"), base)
    assert not torch.allclose(question(policy, "current"), base, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "dtype", "told"),
    [
        ("lora", "fp32", "fp32"),
        ("lora", "bf16", "bf16"),
        ("full", "fp32", "fp32"),
        ("full", "bf16", "text_encoder fp32, text_encoder_2 fp32, transformer bf16, vae fp32"),
    ],
)
def test_precision_is_told_part_by_part_where_they_differ(make_policy, method, dtype, told):
    assert make_policy({"training.method": method, "training.dtype": dtype})[0].precision == told


@pytest.mark.parametrize("method", METHODS)
def test_snapshot_is_no_alias_of_the_live_weights(make_policy, question, method):
    policy, _ = make_policy({"training.method": method})
    stir(policy, 0.05)
    policy.keep("old")
    then = question(policy, "current")
    step_down(policy)
    now = question(policy, "current")
    assert torch.equal(question(policy, "old"), then)
    assert torch.equal(question(policy, "current"), now)
    assert not torch.equal(now, then)
    live = {p.untyped_storage().data_ptr() for p in policy.parameters}
    for snapshot in policy.snapshots.values():
        assert not live & {tensor.untyped_storage().data_ptr() for tensor in snapshot.values()}


def test_asking_the_old_policy_leaves_the_live_one_trainable(make_policy, question):
    policy, _ = make_policy()
    policy.keep("old")
    before = {name: p.detach().clone() for name, p in policy.trained.items()}
    question(policy, "old")
    question(policy, "reference")
    assert all(p.requires_grad for p in policy.parameters)
    assert all(torch.equal(before[name], p) for name, p in policy.trained.items())
    assert dict(policy.model.transformer.named_parameters()).keys() >= policy.trained.keys()


def test_following_by_hand(make_policy):
    policy, _ = make_policy()
    policy.keep("average")
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.add_(1.0)
    before = {name: tensor.clone() for name, tensor in policy.snapshots["average"].items()}
    policy.follow("average", 0.75)
    for name, tensor in policy.snapshots["average"].items():
        torch.testing.assert_close(tensor, before[name] + 0.25)
    policy.follow("average", 0.0)
    for name, tensor in policy.snapshots["average"].items():
        assert torch.equal(tensor, policy.trained[name])


def test_exception_in_a_forward_leaves_the_adapters_on(make_policy, question, monkeypatch):
    policy, _ = make_policy()
    stir(policy, 0.05)
    before = question(policy, "current")

    def fail(*_, **__):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(policy.model.transformer.proj_out, "forward", fail)
        for who in ("reference", "current"):
            with pytest.raises(RuntimeError, match="out of memory"):
                question(policy, who)
    assert torch.equal(question(policy, "current"), before)
    assert all(p.requires_grad for p in policy.parameters)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_nobody_kept_are_a_fault_and_not_the_current_ones(make_policy, question, method):
    policy, _ = make_policy({"training.method": method})
    with pytest.raises(KeyError, match="old"):
        question(policy, "old")
    with pytest.raises(KeyError, match="average"):
        policy.published_weights("average")


def test_snapshots_may_have_any_name(make_policy, question):
    policy, _ = make_policy()
    policy.keep("best so far")
    before = question(policy, "best so far")
    stir(policy, 0.05)
    assert torch.equal(question(policy, "best so far"), before)
    assert not torch.equal(question(policy, "current"), before)


def test_guidance_is_that_of_two_single_calls(make_policy, question):
    policy, _ = make_policy()
    stir(policy, 0.05)
    guided = question(policy, "current", guidance=3.0)
    conditional = question(policy, "current")
    x, sigma = seeded_noise((2, 8, 8, 16), "x"), torch.tensor([0.9, 0.4])
    with torch.no_grad():
        empty = policy.model.encode(["", ""])
        unconditional = policy.velocity("current", x, sigma, empty, purpose="current")
    assert not torch.allclose(conditional, unconditional, atol=1e-4)
    torch.testing.assert_close(guided, guide(conditional, unconditional, 3.0), rtol=0, atol=1e-4)


def test_passes_are_counted_by_purpose_and_guidance_counts_twice(make_policy, question):
    policy, _ = make_policy()
    question(policy, "current")
    question(policy, "current", guidance=2.0)
    assert dict(policy.passes) == {"current": 2 + 4}


def test_lora_is_on_the_eight_joint_attention_projections_and_nowhere_else(make_policy):
    policy, config = make_policy()
    modules = {name.split(".lora_")[0].split(".", 2)[2] for name in policy.trained}
    projections = {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"}
    assert modules <= {f"attn.{name}" for name in projections}
    assert len(policy.trained) == 2 * (8 * 5 - 1)  # the last block's context is not projected out
    assert {p.dtype for p in policy.parameters} == {torch.float32}
    assert all(p.any() for name, p in policy.trained.items() if "lora_A" in name)
    assert not any(p.any() for name, p in policy.trained.items() if "lora_B" in name)
    again, _ = make_policy()
    assert all(torch.equal(p, again.trained[name]) for name, p in policy.trained.items())
    other, _ = make_policy({"seed": 1})
    assert not all(torch.equal(p, other.trained[name]) for name, p in policy.trained.items())
    assert config.training.rank == 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("who", ["current", "average"])
def test_published_weights_come_back(make_policy, question, tmp_path, method, who):
    policy, _ = make_policy({"training.method": method})
    stir(policy, 0.05)
    if who == "average":
        policy.keep("average")
        policy.published = "average"
        stir(policy, 0.05, seed=9)
    publish_weights(tmp_path, policy, policy.published_weights(policy.published))
    other, _ = make_policy({"training.method": method, "seed": 5})
    other.load_published(read_published(tmp_path, method))
    assert torch.equal(question(other, "current"), question(policy, who))
    if who == "average":
        assert not torch.equal(question(other, "current"), question(policy, "current"))


def test_weights_of_another_model_are_refused(make_policy):
    policy, _ = make_policy()
    weights = policy.published_weights("current")
    name = sorted(weights)[0]
    weights["elsewhere"] = weights.pop(name)
    with pytest.raises(UsageError, match="elsewhere"):
        policy.load_published(weights)


def test_weights_of_another_shape_are_refused(make_policy):
    policy, _ = make_policy()
    weights = policy.published_weights("current")
    name = sorted(weights)[0]
    weights[name] = weights[name][:1]
    with pytest.raises(UsageError, match=f"differ in {name}"):
        policy.load_published(weights)


@pytest.mark.parametrize("name", ["attn.to_nothing", "norm1", "(a+)+$", "attn"])
def test_modules_that_no_adapter_fits_are_refused(make_policy, name):
    with pytest.raises(UsageError, match=r"training\.modules: .*for instance attn\.to_q"):
        make_policy({"training.modules": ("attn.to_q", name)})


def test_saved_lora_loads_into_plain_diffusers(make_policy, model_folder, tmp_path):
    """The pipeline with our LoRA draws our picture, from the same noise, with Euler steps and without guidance."""
    policy, _ = make_policy()
    stir(policy, 0.08)
    publish_weights(tmp_path, policy, policy.published_weights(policy.published))
    sampling = Sampling(sampler="euler", steps=4, guidance=1.0, height=32, width=64, text_length=0)
    (ours,) = draw_images(policy, [(PROMPTS[0], 3)], sampling)
    (base,) = draw_images(policy, [(PROMPTS[0], 3)], sampling, who="reference")

    without_t5 = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline: Any = StableDiffusion3Pipeline.from_pretrained(model_folder, dtype=torch.float32, **without_t5)
    pipeline.load_lora_weights(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    noise = seeded_noise((8, 8, 16), "image", PROMPTS[0].id, 3)[None]
    options = {"num_inference_steps": 4, "guidance_scale": 1.0, "height": 32, "width": 64, "max_sequence_length": 0}
    theirs = pipeline(PROMPTS[0].text, latents=noise, **options).images[0]
    assert furthest(ours, theirs) <= 1
    assert furthest(ours, base) > 3


def furthest(one, other):
    pixels = (torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int() for image in (one, other))
    return int((next(pixels) - next(pixels)).abs().max())


def test_policy_that_only_draws_has_no_adapters(make_policy, model_folder, question):
    policy, _ = make_policy(trainable=False)
    assert not policy.trained
    assert torch.equal(question(policy, "current"), base_velocity(model_folder, "fp32", autocast=False))


@pytest.mark.parametrize("who", ["current", "old"])
def test_merged_weights_draw_what_the_adapters_do_and_change_nothing_that_stays(make_policy, question, who):
    policy, _ = make_policy()
    stir(policy, 0.05)
    policy.keep("old")
    stir(policy, 0.05)
    state = {name: tensor.clone() for name, tensor in policy.model.transformer.state_dict().items()}
    apart, base = question(policy, who), question(policy, "reference")
    with policy.drawing_with(who, policy.merge(who)):
        together = question(policy, who)
        assert torch.equal(question(policy, "reference"), base)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=2e-6)
    assert not torch.allclose(together, base, atol=1e-3)
    assert torch.equal(question(policy, who), apart)
    after = policy.model.transformer.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)


def test_nothing_stays_merged_after_an_error(make_policy, question):
    policy, _ = make_policy()
    stir(policy, 0.05)
    apart = question(policy, "current")
    with pytest.raises(RuntimeError), policy.drawing_with("current", policy.merge("current")):
        raise RuntimeError
    assert torch.equal(question(policy, "current"), apart)


@pytest.mark.parametrize(("change", "lost"), [(2**-10, 1.0), (2**-7, 0.0), (0.0, 0.0)])
def test_what_rounding_loses_by_hand(make_policy, change, lost):
    """bf16 has steps of 2^-7 above 1: a change of an eighth of that is rounded away, one of a whole step stays."""
    policy, _ = make_policy({"training.dtype": "bf16", "training.rank": 1, "training.alpha": 1})
    with torch.no_grad():
        for layer in adapted_layers(policy.model.transformer).values():
            layer.base_layer.weight.fill_(1.0)
            layer.lora_A[ADAPTER].weight.fill_(1.0)
            layer.lora_B[ADAPTER].weight.fill_(change)
    merged = policy.merge("current")
    assert merged.lost.item() == pytest.approx(lost)
    assert all(weight.eq(1 + change * (lost < 1)).all() for weight in merged.weights.values())
