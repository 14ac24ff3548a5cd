"""Answers of the small recorded checkpoints: logits and greedy words against the originals' code."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rewards.errors import ScoringError, SetupError
from rewards.vlm.local import Answerer, share_answerer
from rewards.vlm.questions import ask

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm"
INDEX = "model.safetensors.index.json"
FP32, CPU = torch.float32, torch.device("cpu")
KINDS = {"llava_qwen": "pointwise", "qwen25vl": "elements"}
SUFFIXES = {"": "", "resize512": "_resize512", "sglang_double_image": "_double"}


def expected(kind):
    return json.loads((GOLDEN / "unifiedreward" / f"expected_{kind}.json").read_text())


CASES = [(kind, name) for kind in KINDS for name in expected(kind)["cases"]]


def folder_of(kind):
    return GOLDEN / "unifiedreward" / f"tiny_{kind}"


def answerer(kind, dtype=FP32):
    return share_answerer(folder_of(kind) / INDEX, dtype, CPU)


def picture(name):
    file, _, what = name.partition("|")
    image = Image.open(GOLDEN / "images" / file).convert("RGB")
    return image.resize((512, 512)) if what == "resize512" else image


def question(kind):
    return ask(KINDS[kind], expected(kind)["caption"])


@pytest.fixture
def copied(tmp_path):
    """A copy of a folder, to be spoilt."""

    def copy(kind):
        return Path(shutil.copytree(folder_of(kind), tmp_path / kind))

    return copy


def test_every_recorded_case_is_here():
    assert len(CASES) == 8 + 5


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_logits_and_words_are_those_of_the_original(kind, name):
    """1e-3 is what the golden data asks for; measured 4.5e-6 at most."""
    case = expected(kind)["cases"][name]
    file, _, what = name.partition("|")
    key = f"{file.replace('.', '_')}{SUFFIXES[what]}__logits_last"
    wanted = np.load(GOLDEN / "unifiedreward" / f"intermediates_{kind}.npz")[key]
    double = what == "sglang_double_image"
    logits = answerer(kind).logits(picture(name), question(kind), double)
    assert np.abs(logits.numpy() - wanted).max() < 2e-5
    reply = answerer(kind).answer(picture(name), question(kind), 12, double)
    assert reply.text == case["greedy_text"]
    assert reply.cut == (len(case["greedy_ids"]) == 12)


def test_the_settings_for_conversation_do_not_touch_the_answer():
    """The folders ask for a repetition penalty of 1.05, under which the recorded words of this image are others."""
    name = "tiny37x91.png"
    case = expected("llava_qwen")["cases"][name]
    assert case["greedy_ids"] != case["greedy_ids_reference_call"]
    assert answerer("llava_qwen").answer(picture(name), question("llava_qwen"), 12).text == case["greedy_text"]


def test_answers_depend_on_nothing_before():
    """Qwen's network remembers the positions of the last image it saw."""
    model = answerer("qwen25vl")
    names = [name for kind, name in CASES if kind == "qwen25vl"]
    forwards = {name: model.answer(picture(name), question("qwen25vl"), 4) for name in names}
    assert {name: model.answer(picture(name), question("qwen25vl"), 4) for name in reversed(names)} == forwards


def test_half_precision_keeps_angles_and_positions_exact():
    model = answerer("llava_qwen", torch.bfloat16)
    image = picture("tiny37x91.png")
    exact = answerer("llava_qwen").logits(image, question("llava_qwen"))
    half = model.logits(image, question("llava_qwen"))
    assert 1e-3 < (half - exact).abs().max() < 0.5
    assert model.network.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", KINDS)
def test_markers_in_a_caption_are_words(kind):
    """Written out they would be a second image, or the end of the turn."""
    safe = ask(KINDS[kind], "<image> <|image_pad|> <|im_end|>")
    ids = answerer(kind).model.tokenizer(safe).input_ids
    assert len(ids) == len(answerer(kind).model.tokenizer(safe, split_special_tokens=True).input_ids)
    assert answerer(kind).answer(picture("tiny37x91.png"), safe, 2).text is not None


def test_an_empty_image_has_no_answer():
    with pytest.raises(ScoringError, match="empty"):
        answerer("qwen25vl").answer(Image.new("RGB", (0, 4)), "?", 2)


def test_building_reads_no_weights(copied):
    """They are mapped, and become parameters of their own only at the first question."""
    model = Answerer(copied("qwen25vl") / INDEX, FP32, CPU)
    assert {parameter.dtype for parameter in model.model.network.parameters()} == {torch.bfloat16}
    assert not any(tensor.is_meta for tensor in model.model.network.state_dict().values())


@pytest.mark.parametrize(
    ("kind", "key", "name"),
    [
        ("llava_qwen", "model.image_newline", "model.image_newline"),
        ("llava_qwen", "model.norm.weight", "model.language_model.norm.weight"),
        ("qwen25vl", "visual.merger.ln_q.weight", "model.visual.merger.ln_q.weight"),
        ("qwen25vl", "lm_head.weight", "lm_head.weight"),
    ],
)
def test_a_checkpoint_that_lacks_a_tensor_is_refused(copied, kind, key, name):
    folder = copied(kind)
    index = json.loads((folder / INDEX).read_text())
    shard = folder / index["weight_map"].pop(key)
    state = load_file(shard)
    del state[key]
    save_file(state, shard)
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(SetupError, match=re.escape(f"lacks {name}")):
        Answerer(folder / INDEX, FP32, CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_too_many_is_refused(copied, kind):
    folder = copied(kind)
    index = json.loads((folder / INDEX).read_text())
    name = next(iter(index["weight_map"].values()))
    save_file({**load_file(folder / name), "model.extra": torch.zeros(1)}, folder / name)
    index["weight_map"]["model.extra"] = name
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(SetupError, match=r"unexpected model\.language_model\.extra"):
        Answerer(folder / INDEX, FP32, CPU)


def test_one_file_that_is_not_cut_is_the_same_model(copied):
    folder = copied("qwen25vl")
    state = {}
    for shard in folder.glob("*.safetensors"):
        state |= load_file(shard)
        shard.unlink()
    (folder / INDEX).unlink()
    save_file(state, folder / "model.safetensors")
    one = Answerer(folder / "model.safetensors", FP32, CPU)
    image = picture("tiny37x91.png")
    assert torch.equal(one.logits(image, "?"), answerer("qwen25vl").logits(image, "?"))


def test_tied_embeddings_need_no_second_copy(copied):
    """The 3b models of Qwen2.5-VL write no lm_head."""
    folder = copied("qwen25vl")
    index = json.loads((folder / INDEX).read_text())
    shard = folder / index["weight_map"].pop("lm_head.weight")
    state = load_file(shard)
    del state["lm_head.weight"]
    save_file(state, shard)
    (folder / INDEX).write_text(json.dumps(index))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    network: Any = Answerer(folder / INDEX, FP32, CPU).network
    assert torch.equal(network.lm_head.weight, network.get_input_embeddings().weight)


@pytest.mark.parametrize("tied", [False, True])
def test_a_qwen3_folder_of_today_is_loaded_whole(tmp_path, tied):
    """Nothing of the original is recorded; a folder that transformers wrote gives what its own network gives."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(1)
    markers: dict[str, Any] = {
        "image_token_id": 506,
        "video_token_id": 507,
        "vision_start_token_id": 503,
        "vision_end_token_id": 504,
    }
    text = {
        "vocab_size": 520, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64, "patch_size": 16,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **markers)
    theirs = Qwen3VLForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(folder_of("qwen25vl") / name, tmp_path)
    eye = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(eye))
    ours = Answerer(tmp_path / "model.safetensors", FP32, CPU)
    image = picture("tiny37x91.png")
    inputs = ours.model.prepare(image, "how good?", False)
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 4]]  # 128 x 64 pixels, as 96 x 32 would be less than four steps
    with torch.no_grad():
        wanted = theirs(**inputs).logits[0, -1, :508]
    assert (ours.logits(image, "how good?") - wanted).abs().max() < 1e-5
    assert ours.answer(image, "how good?", 3).text is not None


def test_a_model_of_another_kind_is_refused_with_the_way_out(copied):
    folder = copied("qwen25vl")
    (folder / "config.json").write_text('{"model_type": "qwen3_5"}')
    with pytest.raises(SetupError, match=r'"qwen3_5".*judge=URL'):
        Answerer(folder / INDEX, FP32, CPU)


def test_a_folder_without_a_tokenizer_is_refused(copied):
    """transformers itself makes an empty one and says nothing."""
    folder = copied("llava_qwen")
    (folder / "merges.txt").unlink()
    with pytest.raises(SetupError, match=r"no tokenizer.json, nor vocab.json and merges.txt"):
        Answerer(folder / INDEX, FP32, CPU)


def test_a_tokenizer_without_turns_is_refused(copied):
    folder = copied("llava_qwen")
    for name in ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
        (folder / name).unlink()
    with pytest.raises(SetupError, match=r"does not know <\|im_start\|>, <\|im_end\|>"):
        Answerer(folder / INDEX, FP32, CPU)


def test_an_image_marker_that_the_tokenizer_lacks_is_added(copied):
    """As in the authors' code; the features take its place, so that nothing else changes."""
    folder = copied("llava_qwen")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["added_tokens_decoder"]["503"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "added_tokens.json").unlink()
    image, asked = picture("tiny37x91.png"), question("llava_qwen")
    model = Answerer(folder / INDEX, FP32, CPU)
    assert model.model.tokenizer.convert_tokens_to_ids("<image>") == 503
    assert torch.equal(model.logits(image, asked), answerer("llava_qwen").logits(image, asked))


def test_a_tokenizer_of_another_model_is_refused(copied):
    folder = copied("qwen25vl")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_token_id": 505}))
    with pytest.raises(SetupError, match=r"at 506 and config\.json at 505"):
        Answerer(folder / INDEX, FP32, CPU)


def test_a_folder_whose_answers_would_not_end_is_refused(copied):
    folder = copied("llava_qwen")
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(SetupError, match="eos_token_id"):
        Answerer(folder / INDEX, FP32, CPU)
