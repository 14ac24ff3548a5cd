"""HPS v2.1: the reference's numbers with either resize, and none where the files do not fit."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.machines.random_checkpoints import published_shapes, write_checkpoint
from rewards.clip.hpsv2 import CHECKPOINT, CONFIG, HPSv2
from rewards.errors import ScoringError, SetupError
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
FOLDER = GOLDEN / "hpsv2"
TOLERANCE = 1e-5
RGBA = 3


def build(folder=FOLDER, options="") -> HPSv2:
    reward = load(parse_rewards([f"hpsv2{options}"], weights=[f"hpsv2={folder}"])[0])
    assert isinstance(reward, HPSv2)
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
    reward._features.forget()
    return reward


@pytest.fixture
def copy(tmp_path):
    """The golden folder, to be spoilt."""
    for name in (CHECKPOINT, CONFIG):
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def spoil(folder, change):
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    change(content["state_dict"])
    torch.save(content, folder / CHECKPOINT)


def test_all_pairs_score_as_in_the_reference_without_antialias(pairs, golden):
    rows = golden["scores_image_by_prompt(null = reference raised)"]
    rows[RGBA] = golden["scores_image3_converted_to_rgb_per_prompt"]
    scores = values_of(build(options="[antialias=false]").score(*pairs))
    assert scores == pytest.approx([value for row in rows for value in row], rel=0, abs=TOLERANCE)


def test_all_pairs_score_as_in_the_reference_with_antialias(reward, pairs, golden):
    rows = golden["scores_antialias_true_rgb_image_by_prompt"]
    expected = [value for row in rows for value in row]
    assert values_of(reward.score(*pairs)) == pytest.approx(expected, rel=0, abs=TOLERANCE)


def test_a_list_of_images_for_one_prompt_scores_as_in_the_reference(images, prompts, golden):
    scores = build(options="[antialias=false]").score(images[:2], prompts[:1] * 2)
    assert values_of(scores) == pytest.approx(golden["list_call_images_0_1_prompt_0"], rel=0, abs=TOLERANCE)


def test_pixels_are_those_of_the_reference(images, golden):
    prepare = build(options="[antialias=false]")._features.prepare
    for image, moments in zip(images, golden["pixel_values_mean_std_per_image_channel"], strict=True):
        if image.mode == "RGBA":
            continue
        pixels = prepare(image)
        means, deviations = zip(*moments, strict=True)
        assert pixels.mean(dim=(1, 2)).tolist() == pytest.approx(means, abs=1e-5)
        assert pixels.std(dim=(1, 2)).tolist() == pytest.approx(deviations, abs=1e-4)


def test_tokens_are_those_of_the_reference(reward, prompts, golden):
    assert reward._towers.tokenizer([prompt.text for prompt in prompts]).tolist() == golden["open_clip_tokens"]


def test_batches_do_not_matter(reward, images, prompts):
    whole = values_of(reward.score(images, prompts))
    one_by_one = []
    for image, prompt in zip(images, prompts, strict=True):
        reward._features.forget()
        one_by_one += values_of(reward.score([image], [prompt]))
    assert one_by_one == pytest.approx(whole, rel=0, abs=1e-5 * (max(whole) - min(whole)))


def test_each_image_and_each_text_is_encoded_once(reward, pairs, monkeypatch):
    seen = {"images": 0, "texts": 0}
    network = reward._towers.network
    encode_image, encode_text = network.encode_image, network.encode_text

    def count_images(pixels):
        seen["images"] += len(pixels)
        return encode_image(pixels)

    def count_texts(ids):
        seen["texts"] += len(ids)
        return encode_text(ids)

    monkeypatch.setattr(network, "encode_image", count_images)
    monkeypatch.setattr(network, "encode_text", count_texts)
    reward.score(*pairs)
    assert seen == {"images": 8, "texts": 8}


def test_the_two_resizes_share_the_network_and_not_the_features(reward):
    other = build(options="[antialias=false]")
    assert other._towers is reward._towers
    assert other._features is not reward._features
    assert build(options="[dtype=bf16]")._towers is not reward._towers


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_half_precision_leaves_the_cosine_alone(images, prompts, golden, name):
    reward = build(options=f"[dtype={name}]")
    scores = values_of(reward.score(images, prompts))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    assert {parameter.dtype for parameter in reward._towers.network.parameters()} == {dtype}
    expected = [golden["scores_antialias_true_rgb_image_by_prompt"][i][i] for i in range(8)]
    assert scores == pytest.approx(expected, rel=0, abs=0.02)
    assert scores != pytest.approx(expected, rel=0, abs=TOLERANCE)
    assert scores != [torch.tensor(score).to(dtype).item() for score in scores]


def test_half_precision_files_are_computed_in_fp32(reward, images, prompts):
    on_disk = torch.load(FOLDER / CHECKPOINT, weights_only=True)["state_dict"]
    assert on_disk["visual.proj"].dtype == torch.float16
    reward.score(images[:1], prompts[:1])
    assert {parameter.dtype for parameter in reward._towers.network.parameters()} == {torch.float32}


def test_training_mode_does_not_leak(reward, images, prompts):
    before = values_of(reward.score(images, prompts))
    reward._features.forget()
    reward._towers.network.train()
    assert values_of(reward.score(images, prompts)) == before
    assert not reward._towers.network.training


def test_prompts_of_no_words_and_of_too_many(reward, images):
    long = " ".join(f"word{i}" for i in range(200))
    empty, whole, cut = reward.score(images[:1] * 3, [Prompt(""), Prompt(long), Prompt(long + " and more")])
    assert whole.value == pytest.approx(cut.value, abs=1e-6)
    assert empty.value != whole.value
    assert reward.score([], []) == []


def test_an_empty_image_fails_alone(reward, images, prompts):
    batch = [images[0], Image.new("RGB", (4, 0)), images[2]]
    with pytest.raises(ScoringError, match="empty"):
        reward.score(batch[1:2], prompts[:1])
    first, empty, last = score_batch({"it": reward}, batch, prompts[:3]).scores["it"]
    assert empty.value is None
    assert "empty" in empty.reason
    sound = values_of(reward.score([batch[0], batch[2]], [prompts[0], prompts[2]]))
    assert [first.value, last.value] == pytest.approx(sound, abs=1e-6)


def test_other_dimensions_load_too(tmp_path, images, prompts):
    scores: Any = values_of(build(write_checkpoint("hpsv2", tmp_path)).score(images, prompts))
    assert len({round(score, 4) for score in scores}) == 8


def test_the_hubs_form_of_the_config_is_read_alike(copy, reward, images, prompts):
    bare = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps({"model_cfg": bare, "preprocess_cfg": {"mean": [0, 0, 0]}}))
    assert values_of(build(copy).score(images, prompts)) == values_of(reward.score(images, prompts))


def test_without_a_config_the_published_size_is_expected(copy):
    (copy / CONFIG).unlink()
    with pytest.raises(SetupError, match=r"\[257, 32\], ViT-H-14.* has \[257, 1280\].*open_clip_config\.json"):
        build(copy)


def test_the_published_size_loads_without_a_config(tmp_path):
    """All 986 million numbers, drawn as views of a single one, so that no memory is needed."""
    shapes = published_shapes("hpsv2", "full")
    state = {key: torch.zeros((), dtype=torch.float16).expand(shape) for key, shape in shapes.items()}
    torch.save({"state_dict": state}, tmp_path / CHECKPOINT)
    network = build(tmp_path)._towers._network
    assert sum(parameter.numel() for parameter in network.parameters()) == 986_109_441
    assert (
        network.visual.transformer.resblocks[0].attn.num_heads,
        network.transformer.resblocks[0].attn.num_heads,
    ) == (
        16,
        16,
    )


def test_a_config_of_another_network_is_refused(copy):
    config = json.loads((copy / CONFIG).read_text())
    config["vision_cfg"]["patch_size"] = 16
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SetupError, match="another size than its description"):
        build(copy)


def test_a_config_whose_layers_do_not_fit_names_the_keys(copy):
    config = json.loads((copy / CONFIG).read_text())
    config["text_cfg"]["layers"] = 3
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SetupError, match=r"lacks transformer\.resblocks\.2\..* and 2 more"):
        build(copy)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([1], "does not hold a JSON object"),
        ({"embed_dim": 32}, "needs embed_dim, vision_cfg and text_cfg"),
        ({"embed_dim": 32, "vision_cfg": {"timm_model_name": "x"}, "text_cfg": {}}, "timm_model_name"),
        ({"embed_dim": 32, "vision_cfg": {"hue": 1}, "text_cfg": {}}, "hue"),
        ({"embed_dim": 32, "vision_cfg": {}, "text_cfg": {}, "multimodal_cfg": {}}, "multimodal_cfg"),
        ({"embed_dim": 32, "vision_cfg": {"image_size": [224, 112]}, "text_cfg": {}}, "not square"),
    ],
)
def test_a_config_of_something_else_is_refused(copy, config, words):
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SetupError, match=words):
        build(copy)


def test_keys_that_do_not_fit_are_named(copy):
    def change(state):
        del state["ln_final.bias"]
        state["visual.extra"] = torch.zeros(1)
        state["visual.ln_pre.weight"] = torch.zeros(33)

    spoil(copy, change)
    with pytest.raises(SetupError) as caught:
        build(copy)
    for words in ("lacks ln_final.bias", "unexpected visual.extra", "visual.ln_pre.weight ([33] instead of [32])"):
        assert words in str(caught.value)


def test_another_rewards_checkpoint_is_refused(copy):
    shutil.copy(GOLDEN / "imagereward" / "ImageReward.pt", copy / CHECKPOINT)
    with pytest.raises(SetupError, match='has no "state_dict"'):
        build(copy)


def test_without_open_clip_the_command_that_installs_it_is_named(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(SetupError, match=r"dgpo\[openclip\]"):
        build(copy)


def test_provenance_names_files_and_engine(reward):
    record = reward.provenance()
    assert record["engine"] == "open_clip"
    assert record["dtype"] == "fp32"
    assert record["device"] == str(reward.device)
    assert f"{CHECKPOINT} sha256:" in record["weights"]
