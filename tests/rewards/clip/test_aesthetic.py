"""The aesthetic predictor against recorded scores in both orders of preparing, and its head by hand."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from rewards.clip.aesthetic import Aesthetic, load_head
from rewards.clip.clipscore import ClipScore
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load

FAMILY = Path(__file__).parents[2] / "golden" / "clip_family"
FOLDER = FAMILY / "aesthetic"
HEAD = "sac+logos+ava1-l14-linearMSE.pth"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
REAL = json.loads((FOLDER / "golden_real_mlp.json").read_text())
IMAGES = [Image.open(FAMILY / "images" / name) for name in GOLDEN["images"]]
PROMPTS = [Prompt("")] * 8


def build(text="aesthetic", folder=FOLDER) -> Aesthetic:
    reward = load(parse_rewards([text], weights=[f"aesthetic={folder}"])[0])
    assert isinstance(reward, Aesthetic)
    return reward


def values(scores):
    return torch.tensor([score.value for score in scores])


@pytest.fixture(scope="module")
def reward():
    return build()


@pytest.fixture
def copy(tmp_path):
    """A weights folder whose head can be spoilt."""
    shutil.copy(FOLDER / HEAD, tmp_path)
    (tmp_path / "clip").symlink_to(FOLDER / "clip")
    return tmp_path


def save_head(folder, state):
    torch.save(state, folder / HEAD)
    return folder / HEAD


@pytest.mark.parametrize("name", ["scores_flow_grpo_hf_pil_rgb", "scores_flow_grpo_hf_uint8_tensor"])
def test_rgb_first_scores_are_those_of_flow_grpo(reward, name):
    torch.testing.assert_close(values(reward.score(IMAGES, PROMPTS)), torch.tensor(GOLDEN[name]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["scores_original_simple_inference", "scores_imagereward_aestheticscore"])
def test_resize_first_scores_are_those_of_the_original(name):
    scores = values(build("aesthetic[order=resize-first]").score(IMAGES, PROMPTS))
    torch.testing.assert_close(scores, torch.tensor(GOLDEN[name]), atol=1e-4, rtol=0)


def test_the_prompt_changes_nothing(reward):
    other = [Prompt(f"a {number}") for number in range(8)]
    assert reward.score(IMAGES, PROMPTS) == reward.score(IMAGES, other)


def test_alone_scores_are_the_same(reward):
    together = values(reward.score(IMAGES, PROMPTS))
    alone = []
    for image in IMAGES:
        reward.tower.features[reward.way].forget()
        alone += reward.score([image], PROMPTS[:1])
    assert (values(alone) - together).abs().max() < 1e-5 * (together.max() - together.min())


def test_an_empty_image_fails_alone(reward):
    scores = score_batch({"it": reward}, [Image.new("L", (3, 0)), *IMAGES[1:]], PROMPTS).scores["it"]
    assert "empty (3 x 0 pixels)" in scores[0].reason
    assert [score.ok for score in scores[1:]] == [True] * 7


def test_half_precision_keeps_the_head_whole(reward):
    half = build("aesthetic[dtype=bf16]")
    scores = values(half.score(IMAGES, PROMPTS))
    assert {parameter.dtype for parameter in half.head.parameters()} == {torch.float32}
    assert not torch.equal(scores, scores.bfloat16().float())
    assert 1e-4 < (scores - values(reward.score(IMAGES, PROMPTS))).abs().max() < 1


def test_a_tower_is_shared_with_clipscore_and_sees_each_image_once(reward):
    """Same files, same way of preparing: one network object, one forward pass for both rewards."""
    other = load(parse_rewards(["clipscore[definition=hf-cosine]"], weights=[f"clipscore={FAMILY / 'clipscore'}"])[0])
    assert isinstance(other, ClipScore)
    assert other.tower is reward.tower
    assert build("aesthetic[dtype=bf16]").tower is not reward.tower
    reward.tower.features[reward.way].forget()
    rows = []
    hook = reward.tower._vision.register_forward_pre_hook(
        lambda *given: rows.append(len(given[2]["pixel_values"])), with_kwargs=True
    )
    score_batch({"aesthetic": reward, "clipscore": other}, [*IMAGES, IMAGES[0]], [*PROMPTS, Prompt("a cat")])
    hook.remove()
    assert rows == [8]


def test_a_head_by_hand(tmp_path):
    """Two layers, 2 to 2 to 1: (x, y) -> (x + 2y + 1, 3x - 1) -> 10 (x + 2y + 1) + (3x - 1) + 0.5."""
    path = save_head(
        tmp_path,
        {
            "layers.10.weight": torch.tensor([[10.0, 1.0]]),
            "layers.10.bias": torch.tensor([0.5]),
            "layers.2.weight": torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
            "layers.2.bias": torch.tensor([1.0, -1.0]),
        },
    )
    assert load_head(path, 2)(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [[22.5], [29.5]]


def test_a_head_in_half_precision_is_computed_in_fp32(tmp_path):
    path = save_head(tmp_path, {"layers.0.weight": torch.ones(1, 2).half(), "layers.0.bias": torch.zeros(1).half()})
    assert load_head(path, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_a_head_for_another_clip_is_refused(reward, copy):
    with pytest.raises(SetupError, match=r"from the 512 features .* 768 to 64, 64 to 32, 32 to 16, 16 to 8, 8 to 1"):
        load_head(copy / HEAD, 512)
    save_head(copy, {"layers.0.weight": torch.ones(1, 512), "layers.0.bias": torch.ones(1)})
    with pytest.raises(SetupError, match=f"from the {reward.tower.width} features .* 512 to 1"):
        build(folder=copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layers.2.weight"), "does not lead from"),
        (lambda s: s.pop("layers.2.bias"), r"lacks layers\.2\.bias"),
        (lambda s: s.update({"layers.8.bias": torch.ones(1)}), r"unexpected layers\.8\.bias"),
        (lambda s: s.update({"extra": torch.ones(1)}), "unexpected extra"),
        (lambda s: s.update({"layers.4.bias": torch.ones(5)}), r"layers\.4\.bias \(\[5\] instead of \[16\]\)"),
        (lambda s: s.update({"layers.7.weight": torch.ones(2, 8)}), "does not lead from"),
        (lambda s: s.clear(), "its layers: none"),
    ],
)
def test_a_head_with_a_fault_is_a_sentence(copy, change, words):
    state = torch.load(copy / HEAD, weights_only=True)
    change(state)
    save_head(copy, state)
    with pytest.raises(SetupError, match=words):
        build(folder=copy)


def test_the_order_is_recorded_in_the_name():
    assert parse_rewards(["aesthetic[order=resize-first]"])[0].key == "aesthetic@1[order=resize-first]"


@pytest.mark.skipif(
    "DGPO_AESTHETIC_MLP" not in os.environ, reason=f"set DGPO_AESTHETIC_MLP to the published {HEAD} to check it"
)
def test_the_published_head_gives_its_recorded_scores():
    """On v_k[i] = sin(0.37 k i + 0.1 k^2) for k = 1 to 6, the first and last unit vector, and ones, all of length 1."""
    head = load_head(Path(os.environ["DGPO_AESTHETIC_MLP"]), 768)
    waves = [[math.sin(0.37 * k * i + 0.1 * k * k) for i in range(1, 769)] for k in range(1, 7)]
    units = [[float(i == place) for i in range(768)] for place in (0, 767)]
    vectors = torch.tensor([*waves, *units, [1.0] * 768], dtype=torch.float64)
    scores = head((vectors / vectors.norm(dim=1, keepdim=True)).float()).squeeze(1)
    torch.testing.assert_close(scores, torch.tensor(REAL["scores_fp32_eval_mode"]), atol=1e-5, rtol=0)
    assert head(torch.zeros(1, 768)).item() == pytest.approx(REAL["zero_vector_score_equals_bias"], abs=1e-5)
