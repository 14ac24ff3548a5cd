"""DeQA: the reference's numbers, and none where the files do not fit."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rewards.errors import SetupError
from rewards.networks.mplug_owl2.network import MplugOwl2
from rewards.networks.preprocess import CLIP_MEAN, CLIP_STD
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.vlm.deqa import AFTER, BEFORE, FILES, INDEX, LEVELS, Deqa, read_out, read_question

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm"
FOLDER = GOLDEN / "deqa"
FIRST = "model-00001-of-00003.safetensors"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
PROMPT = Prompt("")
TOLERANCE = 1e-4
LLAMA = os.environ.get("DGPO_LLAMA_TOKENIZER", "")


def build(folder=FOLDER, options="") -> Deqa:
    reward = load(parse_rewards([f"deqa{options}"], weights=[f"deqa={folder}"])[0])
    assert isinstance(reward, Deqa)
    return reward


def score(reward, images):
    for features in reward._judge.features.values():
        features.forget()
    return [one.value for one in reward.score(images, [PROMPT] * len(images))]


@pytest.fixture(scope="module")
def golden():
    return json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture(scope="module")
def images(golden):
    return {name: Image.open(GOLDEN / "images" / name) for name in golden["images"]}


@pytest.fixture(scope="module")
def reward():
    return build()


@pytest.fixture
def copy(tmp_path):
    """The golden folder, to be spoilt."""
    for name in (*FILES, *SHARDS):
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_scores_are_those_of_the_reference(reward, images, golden):
    for name, image in images.items():
        assert score(reward, [image]) == pytest.approx([golden["images"][name]["score"]], rel=0, abs=TOLERANCE)
    together = score(reward, list(images.values()))
    assert together == pytest.approx(list(golden["batched_scores"].values()), rel=0, abs=TOLERANCE)


def test_logits_and_probabilities_are_those_of_the_reference(reward, images, golden):
    with torch.inference_mode():
        logits = reward._judge.features["lossless"].of(list(images.values()))
    for row, wanted in zip(logits, golden["images"].values(), strict=True):
        assert row.tolist() == pytest.approx(wanted["logits5"], rel=0, abs=TOLERANCE)
        assert row.softmax(0).tolist() == pytest.approx(wanted["probs5"], rel=0, abs=TOLERANCE)


def test_one_image_scores_as_in_a_batch(reward, images):
    together = score(reward, list(images.values()))
    alone = [score(reward, [image])[0] for image in images.values()]
    assert alone == pytest.approx(together, rel=0, abs=1e-5 * (max(together) - min(together)))


def test_tokens_are_those_of_the_reference(reward, golden):
    question = reward._judge.question
    assert [*question.before, golden["image_token_index"], *question.after] == golden["input_ids"]
    assert list(question.levels) == golden["level_ids"]
    assert f"{BEFORE}<|image|>{AFTER}" == golden["prompt"]
    assert golden["levels"] == list(LEVELS)


@pytest.mark.skipif(not LLAMA, reason="DGPO_LLAMA_TOKENIZER names no tokenizer.model of LLaMA")
def test_tokens_of_llama_are_the_published_ones():
    question = read_question(Path(LLAMA), {"vocab_size": 32000}, Path("config.json"))
    before = (1, 3148, 1001, 29901, 1128, 723, 366, 6554, 278, 11029, 310, 445, 1967, 29973, 13)
    after = (29871, 13, 22933, 9047, 13566, 29901, 450, 11029, 310, 278, 1967, 338)
    assert (question.before, question.after) == (before, after)
    assert question.levels == (15129, 1781, 6534, 6460, 4319)


def test_pixels_are_those_of_the_reference(reward, images, golden):
    inside = np.load(FOLDER / "intermediates.npz")
    for name, image in images.items():
        pixels = reward._judge.features["lossless"].prepare(image)
        key = name.replace(".", "_")
        levels = (pixels.permute(1, 2, 0) * torch.tensor(CLIP_STD) + torch.tensor(CLIP_MEAN)) * 255
        wanted = np.asarray(Image.open(FOLDER / "expected_448" / f"{key}.png"))
        np.testing.assert_array_equal(levels.round().to(torch.uint8).numpy(), wanted)
        np.testing.assert_allclose(pixels[0, 224].numpy(), inside[f"{key}__pixels_c0_row224"], rtol=0, atol=1e-6)
        assert pixels.double().abs().sum().item() == pytest.approx(golden["images"][name]["pixel_sum_abs"], rel=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "CMYK"])
def test_every_mode_is_rgb_first(reward, images, mode):
    image = images["port301x518.png"].convert(mode)
    if mode == "RGBA":
        image.putalpha(60)
    assert score(reward, [image]) == score(reward, [image.convert("RGB")])


def test_jpeg_on_the_way_is_an_option_and_in_the_key(images, golden):
    sent = build(options="[transport=jpeg75]")
    assert sent.spec.key == "deqa@1[transport=jpeg75]"
    (value,) = score(sent, [images["sq512.png"]])
    assert value == pytest.approx(golden["images"]["sq512_q75.jpg"]["score"], rel=0, abs=TOLERANCE)
    assert abs(value - golden["images"]["sq512.png"]["score"]) > 50 * TOLERANCE


def test_both_ways_share_one_network_and_equal_pixels_are_encoded_once(reward, images, monkeypatch):
    seen = []
    embed = MplugOwl2.embed_image
    monkeypatch.setattr(MplugOwl2, "embed_image", lambda net, pixels: seen.append(len(pixels)) or embed(net, pixels))
    sent = build(options="[transport=jpeg75]")
    assert sent._judge is reward._judge
    lossy, lossless = images["sq512_q75.jpg"], images["sq512.png"]
    score(reward, [lossy])
    sent.score([lossless] * 3, [Prompt(text) for text in "abc"])
    assert seen == [1]
    sent.score([lossy], [PROMPT])
    assert seen == [1, 1]


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 0.01), ("bf16", 0.03)])
def test_half_precision_is_near_the_references(images, golden, dtype, tolerance):
    names = ("sq512.png", "port301x518.png", "tiny37x91.png")
    values = score(build(options=f"[dtype={dtype}]"), [images[name] for name in names])
    wanted = [golden[f"scores_{dtype}_eager_reference"][name] for name in names]
    assert values == pytest.approx(wanted, rel=0, abs=tolerance)
    assert values != [torch.tensor(value).half().item() for value in values]  # the readout is fp32


@pytest.mark.parametrize(
    ("shares", "points"),
    [((0.2,) * 5, 3), ((0.5, 0.5, 0, 0, 0), 4.5), ((0, 0, 0, 0, 1), 1), ((0.1, 0.2, 0.3, 0.15, 0.25), 2.75)],
)
def test_the_readout_by_hand(shares, points):
    logits = torch.tensor([shares]).log() + 7
    assert read_out(logits).tolist() == pytest.approx([points], abs=1e-6)


def test_no_images_have_no_scores(reward):
    assert reward.score([], []) == []


def test_what_cannot_be_judged_is_a_failed_score(reward, images, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000 * 1000)
    spoilt = [Image.new("RGB", (1001, 2)), Image.new("RGB", (0, 3)), images["tiny37x91.png"]]
    long, empty, good = score_batch({"it": reward}, spoilt, [PROMPT] * 3).scores["it"]
    assert "too large to be padded to a square (1001 x 2 pixels)" in long.reason
    assert "empty" in empty.reason
    assert good.ok


def test_building_reads_no_weights(copy):
    """What is mapped keeps the dtype of the file until the first score."""
    reward = build(copy)
    assert {tensor.dtype for tensor in reward._judge._network.state_dict().values()} == {torch.bfloat16}
    score(reward, [Image.new("RGB", (8, 8))])
    assert reward._judge.network.model["norm"].weight.dtype == torch.float32


def test_every_shard_is_recorded(reward, copy, monkeypatch):
    assert set(reward.files) == {*FILES, *SHARDS}
    assert all(f"{name} sha256:" in reward.provenance()["weights"] for name in SHARDS)
    monkeypatch.chdir(copy.parent)
    assert set(build(copy.name).files) == {*FILES, *SHARDS}


def test_a_checkpoint_in_one_file_scores_the_same(reward, copy, images):
    state = {key: tensor for name in SHARDS for key, tensor in load_file(copy / name).items()}
    for name in (INDEX, *SHARDS):
        (copy / name).unlink()
    save_file(state, copy / "model.safetensors")
    whole = build(copy)
    assert score(whole, [images["sq512.png"]]) == score(reward, [images["sq512.png"]])
    assert INDEX not in whole.files
    assert "model.safetensors sha256:" in whole.provenance()["weights"]


def add_to_first(folder, tensors):
    """Put tensors into the first shard and into the index."""
    save_file(load_file(folder / FIRST) | tensors, folder / FIRST)
    index = json.loads((folder / INDEX).read_text())
    change(folder / INDEX, weight_map=index["weight_map"] | dict.fromkeys(tensors, FIRST))


def test_rotary_tables_in_old_files_mean_nothing(reward, copy, images):
    add_to_first(copy, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert score(build(copy), [images["sq512.png"]]) == score(reward, [images["sq512.png"]])


def test_any_other_key_is_refused(copy):
    add_to_first(copy, {"model.layers.0.self_attn.k_proj.weight": torch.ones(64, 64)})
    with pytest.raises(SetupError, match=r"has unexpected model\.layers\.0\.self_attn\.k_proj\.weight"):
        build(copy)


def test_a_missing_shard_is_named(copy):
    (copy / SHARDS[1]).unlink()
    with pytest.raises(SetupError, match=f"not beside it: {SHARDS[1]}"):
        build(copy)


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"rms_norm_eps": None}, "does not say rms_norm_eps"),
        ("config.json", {"hidden_size": 128}, r"does not fit MplugOwl2: it has another shape of"),
        ("config.json", {"level_ids": [313, 334, 319, 302, 315]}, r"says level_ids: \[313, 334, 319, 302, 315\]"),
        ("config.json", {"level_prefix": [450, 11029]}, r"says level_prefix: \[450, 11029\]"),
        ("config.json", {"vocab_size": 400}, "has more words than the 400 of"),
        ("config.json", {"image_aspect_ratio": "square"}, "image_aspect_ratio 'square', which should be pad"),
        ("preprocessor_config.json", {"size": 336, "crop_size": 336}, "asks for 336 pixels, .* for 448"),
        ("preprocessor_config.json", {"resample": 2}, "not reproduced here: resample = 2"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(copy, file, values, words):
    change(copy / file, **values)
    with pytest.raises(SetupError, match=words):
        build(copy)


def test_ids_in_the_config_may_be_absent(copy, reward):
    config = json.loads((copy / "config.json").read_text())
    question = read_question(copy / "tokenizer.model", {"vocab_size": config["vocab_size"]}, copy / "config.json")
    assert question == reward._judge.question


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_broken_tokenizer_is_a_sentence(copy, content):
    (copy / "tokenizer.model").write_bytes(content)
    with pytest.raises(SetupError, match=r"tokenizer\.model is no SentencePiece model"):
        build(copy)


def test_without_sentencepiece_the_extra_is_named(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, sentencepiece.__name__, None)
    with pytest.raises(SetupError, match=r"pip install 'dgpo\[vlm\]'"):
        build(copy)
