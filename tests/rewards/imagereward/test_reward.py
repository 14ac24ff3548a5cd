"""ImageReward: the reference's numbers, and none where the files do not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.machines.random_checkpoints import write_checkpoint
from rewards.errors import ScoringError, SetupError
from rewards.imagereward import reward as imagereward
from rewards.networks.blip import RewardNetwork
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
FOLDER = GOLDEN / "imagereward"
TOLERANCE = 1e-4
LONG = " ".join(f"word{i}" for i in range(200))


def build(folder=FOLDER, options="") -> imagereward.ImageReward:
    reward = load(parse_rewards([f"imagereward{options}"], weights=[f"imagereward={folder}"])[0])
    assert isinstance(reward, imagereward.ImageReward)
    return reward


def values_of(scores):
    return [score.value for score in scores]


@pytest.fixture(scope="module")
def golden():
    return json.loads((FOLDER / "golden.json").read_text())


@pytest.fixture(scope="module")
def images(golden):
    return [Image.open(GOLDEN / "images" / name) for name in golden["images"]]


@pytest.fixture(scope="module")
def prompts():
    return [Prompt(text) for text in json.loads((GOLDEN / "prompts.json").read_text())]


@pytest.fixture(scope="module")
def pairs(images, prompts):
    """All 64, image by image."""
    return [image for image in images for _ in prompts], [prompt for _ in images for prompt in prompts]


@pytest.fixture
def reward():
    reward = build()
    reward._judge.features.forget()
    return reward


@pytest.fixture
def copy(tmp_path):
    """The golden folder, to be spoilt."""
    for name in ("ImageReward.pt", "med_config.json", "vocab.txt"):
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def spoil(folder, change):
    state = torch.load(folder / "ImageReward.pt", weights_only=True)
    change(state)
    torch.save(state, folder / "ImageReward.pt")


def test_all_pairs_score_as_in_the_reference(reward, pairs, golden):
    expected = [value for row in golden["scores_image_by_prompt"] for value in row]
    assert values_of(reward.score(*pairs)) == pytest.approx(expected, rel=0, abs=TOLERANCE)


def test_one_image_scores_as_in_the_references_other_ways_of_asking(reward, images, prompts, golden):
    (score,) = reward.score(images[:1], prompts[:1])
    assert score.value == pytest.approx(golden["single_image_inference_rank"][1], abs=TOLERANCE)
    diagonal = values_of(reward.score(images, prompts))
    assert diagonal == pytest.approx(golden["flow_grpo_diag_scores"], rel=0, abs=TOLERANCE)


def test_tokens_are_those_of_the_reference(reward, prompts, golden):
    ids, mask = reward._judge.tokenize([prompt.text for prompt in prompts])
    assert ids.tolist() == golden["input_ids"]
    assert mask.int().tolist() == golden["attention_mask"]


def test_special_tokens_have_the_references_numbers(reward, golden):
    ids, _ = reward._judge.tokenize(["[DEC][ENC] [SEP]"])
    assert ids[0].tolist() == [101, golden["special_ids"]["bos [DEC]"], golden["special_ids"]["[ENC]"], 102, 102]


def test_pixels_are_those_of_the_reference(reward, images, golden):
    probe = golden["pixel_values_probe"]
    for row, image in enumerate(images):
        pixels = reward._judge.features.prepare(image)
        at_places = [pixels[:, y, x].tolist() for y, x in probe["positions_y_x"]]
        assert at_places == [pytest.approx(rgb, abs=1e-6) for rgb in probe["values[image][pos][rgb]"][row]]
        moments = golden["pixel_values_mean_std_per_image_channel"][row]
        means, deviations = zip(*moments, strict=True)
        assert pixels.mean(dim=(1, 2)).tolist() == pytest.approx(means, abs=1e-5)
        assert pixels.std(dim=(1, 2)).tolist() == pytest.approx(deviations, abs=1e-4)


def test_intermediate_values_are_those_of_the_reference(reward, images, prompts, golden):
    expected = golden["intermediates_image0_prompt0"]
    judge = reward._judge
    ids, mask = judge.tokenize([prompts[0].text])
    with torch.inference_mode():
        tokens = judge.features.of(images[:1])
        first = judge.network.blip["text_encoder"](ids, mask, tokens)[0, 0]
    assert tokens[0, 0, :8].tolist() == pytest.approx(expected["visual_encoder[0,0,:8]"], rel=0, abs=1e-5)
    assert tokens[0, 196, :8].tolist() == pytest.approx(expected["visual_encoder[0,196,:8]"], rel=0, abs=1e-5)
    assert first.tolist() == pytest.approx(expected["text_cls"], rel=0, abs=1e-5)


def test_neither_batches_nor_padding_matter(reward, images, prompts, monkeypatch):
    whole = values_of(reward.score(images, prompts))
    spread = max(whole) - min(whole)
    for pairs_at_once, call in ((1, 1), (3, 3), (2, 5)):
        monkeypatch.setattr(imagereward, "PAIRS", pairs_at_once)
        monkeypatch.setattr(imagereward, "_CALL", call)
        reward._judge.features.forget()
        assert values_of(reward.score(images, prompts)) == pytest.approx(whole, rel=0, abs=1e-5 * spread)


def test_each_image_is_encoded_once_and_each_pair_read_once(reward, pairs, monkeypatch):
    seen = {"images": 0, "pairs": 0}
    encode, judge = RewardNetwork.encode_image, RewardNetwork.score

    def count_images(network, pixels):
        seen["images"] += len(pixels)
        return encode(network, pixels)

    def count_pairs(network, tokens, ids, mask):
        seen["pairs"] += len(ids)
        return judge(network, tokens, ids, mask)

    monkeypatch.setattr(RewardNetwork, "encode_image", count_images)
    monkeypatch.setattr(RewardNetwork, "score", count_pairs)
    reward.score(*pairs)
    assert seen == {"images": 8, "pairs": 64}


def test_equal_files_are_one_network_in_a_process(reward):
    assert build()._judge is reward._judge
    assert build(options="[dtype=bf16]")._judge is not reward._judge


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_leaves_the_head_alone(images, prompts, golden, dtype):
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    reward = build(options=f"[dtype={name}]")
    scores = values_of(reward.score(images, prompts))
    network = reward._judge.network
    assert {parameter.dtype for parameter in network.mlp.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in network.blip.parameters()} == {dtype}
    assert reward.provenance()["dtype"] == name
    expected = golden["flow_grpo_diag_scores"]
    assert scores == pytest.approx(expected, rel=0, abs=0.25)
    assert scores != pytest.approx(expected, rel=0, abs=TOLERANCE)


def test_training_mode_does_not_leak(reward, images, prompts):
    before = values_of(reward.score(images, prompts))
    reward._judge.features.forget()
    reward._judge.network.train()
    assert values_of(reward.score(images, prompts)) == before
    assert not reward._judge.network.training


def test_prompts_of_no_words_and_of_too_many(reward, images):
    empty, long, cut = reward.score(images[:1] * 3, [Prompt(""), Prompt(LONG), Prompt(LONG + " and more")])
    assert long.value == pytest.approx(cut.value, abs=1e-6)
    assert empty.value != long.value
    assert reward._judge.tokenize([LONG])[0].shape == (1, 35)
    assert reward.score([], []) == []


def test_an_empty_image_fails_alone(reward, images, prompts):
    batch = [images[0], Image.new("RGB", (0, 3)), images[2]]
    with pytest.raises(ScoringError, match="empty"):
        reward.score(batch[1:2], prompts[:1])
    first, empty, last = score_batch({"it": reward}, batch, prompts[:3]).scores["it"]
    assert empty.value is None
    assert "empty" in empty.reason
    assert [first.value, last.value] == pytest.approx(
        values_of(reward.score([batch[0], batch[2]], [prompts[0], prompts[2]])), abs=1e-5
    )


def test_other_dimensions_load_too(tmp_path, images, prompts):
    reward = build(write_checkpoint("imagereward", tmp_path))
    assert reward._judge.features.prepare(images[0]).shape == (3, 160, 160)
    scores: Any = values_of(reward.score(images, prompts))
    assert len({round(score, 4) for score in scores}) == 8


def test_missing_keys_are_named(copy):
    gone = [f"blip.visual_encoder.blocks.{i}.{norm}.{part}" for i in (0, 1) for norm in ("norm1", "norm2")
            for part in ("weight", "bias")]  # fmt: skip
    gone += [f"blip.text_encoder.encoder.layer.{i}.output.LayerNorm.bias" for i in (0, 1, 2)]

    def drop(state):
        for key in gone:
            del state[key]

    spoil(copy, drop)
    with pytest.raises(SetupError, match=r"lacks .*and 1 more") as caught:
        build(copy)
    assert gone[0] in str(caught.value)
    assert str(copy) in str(caught.value)


def test_unexpected_keys_are_named(copy):
    spoil(copy, lambda state: state.update({"blip.itm_head.weight": torch.zeros(2, 12)}))
    with pytest.raises(SetupError, match=r"unexpected blip\.itm_head\.weight"):
        build(copy)


def test_misshapen_keys_are_named(copy):
    spoil(copy, lambda state: state.update({"mlp.layers.4.bias": torch.zeros(65)}))
    with pytest.raises(SetupError, match=r"mlp\.layers\.4\.bias \(\[65\] instead of \[64\]\)"):
        build(copy)


def test_a_missing_layer_in_the_middle_is_noticed(copy):
    def drop(state):
        for key in [key for key in state if ".layer.1." in key]:
            del state[key]

    spoil(copy, drop)
    with pytest.raises(SetupError, match=r"lacks .*encoder\.layer\.1\."):
        build(copy)


def test_the_unused_projections_may_be_absent(copy, images, prompts, golden):
    def drop(state):
        for key in [key for key in state if ("_proj." in key and "visual" not in key) or "position_ids" in key]:
            del state[key]

    spoil(copy, drop)
    scores = values_of(build(copy).score(images, prompts))
    assert scores == pytest.approx(golden["flow_grpo_diag_scores"], rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("other", ["hpsv2/HPS_v2.1_compressed.pt", "aesthetic/sac+logos+ava1-l14-linearMSE.pth"])
def test_another_rewards_checkpoint_is_refused(copy, other):
    shutil.copy(GOLDEN / other, copy / "ImageReward.pt")
    with pytest.raises(SetupError, match="not an ImageReward checkpoint"):
        build(copy)


def test_swapped_files_are_refused(copy):
    shutil.copy(copy / "vocab.txt", copy / "med_config.json")
    with pytest.raises(SetupError, match=r"med_config\.json is not JSON"):
        build(copy)
    shutil.copy(FOLDER / "med_config.json", copy / "med_config.json")
    shutil.copy(copy / "med_config.json", copy / "vocab.txt")
    with pytest.raises(SetupError, match="no vocabulary of BERT"):
        build(copy)
    shutil.copy(copy / "ImageReward.pt", copy / "vocab.txt")
    with pytest.raises(SetupError, match="no vocabulary of BERT"):
        build(copy)


def test_a_truncated_checkpoint_is_refused(copy):
    content = (copy / "ImageReward.pt").read_bytes()
    (copy / "ImageReward.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(SetupError, match="cannot be read as a checkpoint"):
        build(copy)


def test_a_vocabulary_of_another_length_is_refused(copy):
    with (copy / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("supercalifragilistic\n")
    with pytest.raises(SetupError, match=r"30523 words .* 30524 rows"):
        build(copy)


def test_a_vocabulary_without_special_tokens_is_refused(copy):
    words = (copy / "vocab.txt").read_text(encoding="utf-8").replace("[MASK]\n", "[mask]\n")
    (copy / "vocab.txt").write_text(words, encoding="utf-8")
    with pytest.raises(SetupError, match=r"has no \[MASK\]"):
        build(copy)


def test_provenance_names_files_and_engine(reward):
    record = reward.provenance()
    assert record["engine"] == "torch"
    assert record["dtype"] == "fp32"
    assert record["device"] == str(reward.device)
    assert "vocab.txt sha256:07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3" in record["weights"]
