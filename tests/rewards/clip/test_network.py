"""The shared tower: recorded features, checkpoints of any size, faults in the files, one copy for all, fp32 heads."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from rewards.clip.network import ClipTower, cosines, share_tower
from rewards.clip.tokens import ClipTokens
from rewards.errors import SetupError
from rewards.networks.preprocess import Way

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
CPU = torch.device("cpu")
IMAGES = sorted((GOLDEN / "images").iterdir())
PROMPTS = json.loads((GOLDEN / "prompts.json").read_text())
FILES = {
    "pickscore": (GOLDEN / "pickscore" / "model", GOLDEN / "pickscore" / "processor"),
    "aesthetic": (GOLDEN / "clipscore" / "clip", GOLDEN / "clipscore" / "clip"),
}
START, END = 12, 13


def tower_of(folder, dtype=torch.float32, name="model.safetensors"):
    return ClipTower(folder / name, folder / "config.json", CPU, dtype)


def spell(texts):
    """Tokens of the small networks: each letter its place in the alphabet."""
    ids = [[START, *(ord(letter) - ord("a") for letter in text), END] for text in texts]
    return torch.tensor([row + [END] * (9 - len(row)) for row in ids])


@pytest.fixture(scope="module")
def golden():
    name = "pickscore"
    return tower_of(FILES[name][0]), json.loads((GOLDEN / name / "golden.json").read_text())


@pytest.fixture
def small(tmp_path):
    """Another CLIP in the same format, of sizes that nothing else here has, and its own library's network."""
    torch.manual_seed(7)
    config = CLIPConfig(
        projection_dim=10,
        text_config={
            "vocab_size": 14, "hidden_size": 6, "intermediate_size": 13, "num_hidden_layers": 1, "eos_token_id": END,
            "num_attention_heads": 3, "max_position_embeddings": 9, "hidden_act": "relu", "layer_norm_eps": 1e-3,
        },
        vision_config={
            "hidden_size": 12, "intermediate_size": 7, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 20, "patch_size": 5, "hidden_act": "gelu_new", "layer_norm_eps": 1e-2,
        },
    )  # fmt: skip
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(tmp_path)
    return tmp_path, model


def change(folder, **changes):
    """Rewrite the checkpoint with some tensors replaced; None takes one out."""
    path = folder / "model.safetensors"
    state = load_file(path) | changes
    kept = {key: tensor.clone() for key, tensor in state.items() if tensor is not None}
    path.unlink()
    save_file(kept, path)


def noise(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size, size, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def test_text_features_are_those_of_the_reference(golden):
    tower, wanted = golden
    features = tower.text_features(PROMPTS, ClipTokens(FILES["pickscore"][1], 77).published)
    assert features.shape == (8, 24)
    expected = torch.tensor(wanted["text_features_unnormalised[:, :6]"])
    torch.testing.assert_close(features[:, :6].clone(), expected, atol=1e-5, rtol=0)


def test_image_features_are_those_of_the_reference(golden):
    tower, wanted = golden
    way = tower.published_way(FILES["pickscore"][1] / "preprocessor_config.json")
    features = tower.image_features([Image.open(path) for path in IMAGES], way)
    expected = torch.tensor(wanted["image_features_unnormalised[:, :6]"])
    torch.testing.assert_close(features[:, :6].clone(), expected, atol=1e-5, rtol=0)
    assert tower.logit_scale == pytest.approx(wanted["logit_scale_exp"], rel=1e-7)


def test_quick_gelu_features_are_those_of_the_reference():
    folder, processor = FILES["aesthetic"]
    tower = tower_of(folder)
    wanted = json.loads((GOLDEN / "aesthetic" / "golden.json").read_text())
    way = tower.published_way(processor / "preprocessor_config.json")
    features = tower.image_features([Image.open(path) for path in IMAGES], way).clone()
    torch.testing.assert_close(
        features[:, :6], torch.tensor(wanted["image_embeds_unnormalised_hf[:, :6]"]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(features.norm(dim=1), torch.tensor(wanted["image_embeds_norms_hf"]), atol=1e-4, rtol=0)


def test_another_size_activation_and_projection_load_from_the_files_alone(small):
    folder, model = small
    tower = tower_of(folder)
    assert (tower.image_size, tower.text_length, tower.width) == (20, 9, 10)
    way = Way("rgb-first", 20)
    images, texts = [noise(20, seed) for seed in range(3)], ["abc", "", "hgfedcb"]
    with torch.no_grad():
        wanted = model(pixel_values=torch.stack([way(image) for image in images]), input_ids=spell(texts))
    ours = cosines(tower.image_features(images, way), tower.text_features(texts, spell)) * tower.logit_scale
    torch.testing.assert_close(ours.clone(), wanted.logits_per_image.diagonal(), atol=1e-5, rtol=1e-5)


def test_files_of_the_old_kind_give_the_same(small):
    """pytorch_model.bin, position numbers among the tensors, half precision on disk."""
    folder, model = small
    state = {key: tensor.half() for key, tensor in model.state_dict().items()}
    state["text_model.embeddings.position_ids"] = torch.arange(9)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(state, folder / "pytorch_model.bin")
    images, way = [noise(20)], Way("rgb-first", 20)
    old, new = tower_of(folder, name="pytorch_model.bin"), tower_of(folder)
    torch.testing.assert_close(
        old.image_features(images, way).clone(), new.image_features(images, way).clone(), atol=0.02, rtol=0.02
    )
    assert old.image_features(images, way).dtype == torch.float32
    assert {p.dtype for p in old.network.vision_model.parameters()} == {torch.float32}


def test_a_missing_an_unexpected_and_a_misshapen_tensor_are_named(small):
    folder, _ = small
    change(
        folder,
        **{
            "vision_model.pre_layrnorm.bias": None,
            "vision_model.pre_layernorm.bias": torch.zeros(12),
            "text_projection.weight": torch.zeros(6, 10),
        },
    )
    with pytest.raises(SetupError) as caught:
        tower_of(folder)
    message = str(caught.value)
    assert "lacks vision_model.pre_layrnorm.bias" in message
    assert "unexpected vision_model.pre_layernorm.bias" in message
    assert "text_projection.weight ([6, 10] instead of [10, 6])" in message
    assert str(folder / "model.safetensors") in message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "siglip"}, 'of the type "siglip", not a CLIP'),
        ({}, 'of the type "None"'),
        (
            {"model_type": "clip", "text_config": {"hidden_size": 511}},
            "does not describe a CLIP",
        ),
        ({"model_type": "clip", "vision_config": {"hidden_act": "wiggle"}}, "does not describe a CLIP"),
        ({"model_type": "clip", "vision_config": {"image_size": [20, 30]}}, "does not describe a CLIP"),
        ({"model_type": "clip", "vision_config": {"hidden_size": "wide"}}, "does not describe a CLIP"),
    ],
)
def test_a_config_of_something_else_is_a_sentence(small, config, words):
    folder, _ = small
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SetupError, match=words):
        tower_of(folder)


def test_a_preprocessor_of_another_network_is_refused(small):
    tower = tower_of(small[0])
    with pytest.raises(SetupError, match="prepares images of 224 pixels and the network sees 20"):
        tower.published_way(FILES["pickscore"][1] / "preprocessor_config.json")


def test_tokens_of_another_network_are_refused(small):
    tower = tower_of(small[0])
    for ids in ([[START, 14, END]], [[START, 5, 6]]):
        with pytest.raises(SetupError, match="tokenizer does not belong to the network, which knows 14 tokens"):
            tower.text_features(["a"], lambda _, ids=ids: torch.tensor(ids))


@pytest.mark.parametrize("eos", [2, END])
def test_a_text_is_read_at_its_first_end(small, eos):
    """Old configs say eos_token_id 2 and mean the highest id; either way, what follows the end is nothing."""
    folder, _ = small
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = eos
    (folder / "config.json").write_text(json.dumps(config))
    tower = tower_of(folder)
    assert tower.network.text_model.eos_token_id == eos
    ends = ([START, 1, END, END, END], [START, 1, END, 0, 0], [START, 1, END, 5, END], [START, 1, 2, END, 0])
    one, zeros, more, other = (tower.text_features(["b"], lambda _, ids=ids: torch.tensor([ids])) for ids in ends)
    assert torch.equal(one, zeros)
    assert torch.equal(one, more)
    assert not torch.equal(one, other)


def test_equal_texts_are_encoded_once(small):
    tower = tower_of(small[0])
    seen = []
    tower._text.register_forward_pre_hook(lambda *given: seen.append(given[2]["input_ids"].shape[0]), with_kwargs=True)
    features = tower.text_features(["b", "a", "b", "b"], spell)
    assert seen == [2]
    assert torch.equal(features[0], features[3])
    assert not torch.equal(features[0], features[1])


def test_batches_do_not_matter(small):
    tower, way = tower_of(small[0]), Way("rgb-first", 20)
    images, texts = [noise(20, seed) for seed in range(7)], ["a", "bcdefg", "", "gg", "h", "ab", "cba"]
    together = tower.image_features(images, way), tower.text_features(texts, spell)
    for features in tower.features.values():
        features.forget()
    alone = [tower.image_features([image], way) for image in images], [tower.text_features([t], spell) for t in texts]
    for one, many in zip(together, alone, strict=True):
        torch.testing.assert_close(one.clone(), torch.cat(many).clone(), atol=1e-5, rtol=1e-5)


def test_training_mode_changes_nothing(small):
    folder, _ = small
    config = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part]["attention_dropout"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    tower, way = tower_of(folder), Way("rgb-first", 20)
    before = tower.image_features([noise(20)], way), tower.text_features(["abc"], spell)
    tower.network.train()
    tower.features[way].forget()
    assert torch.equal(tower.image_features([noise(20)], way), before[0])
    tower.network.train()
    assert torch.equal(tower.text_features(["abc"], spell), before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stops_at_the_towers(small, dtype):
    folder, _ = small
    half, whole, way = tower_of(folder, dtype), tower_of(folder), Way("rgb-first", 20)
    image = half.image_features([noise(20)], way)
    text = half.text_features(["abc"], spell)
    assert {p.dtype for p in half.network.vision_model.parameters()} == {dtype}
    assert {p.dtype for p in half.network.text_model.parameters()} == {dtype}
    for features in (image, text):
        assert features.dtype == torch.float32
        assert not torch.equal(features, features.to(dtype).float())
    assert half.logit_scale == whole.logit_scale
    assert not torch.equal(image, whole.image_features([noise(20)], way))
    assert cosines(image, whole.image_features([noise(20)], way)).item() > 0.999


def test_equal_files_have_one_tower_in_a_process(small, tmp_path):
    folder, _ = small
    (tmp_path / "link").symlink_to(folder)
    one = share_tower(folder / "model.safetensors", folder / "config.json", CPU, torch.float32)
    files = tmp_path / "link" / "model.safetensors", tmp_path / "link" / "config.json"
    assert share_tower(*files, CPU, torch.float32) is one
    assert share_tower(*files, CPU, torch.bfloat16) is not one


def test_building_reads_no_weights(small):
    """Casting and moving wait for the first image or text."""
    tower = tower_of(small[0], torch.bfloat16)
    assert {parameter.dtype for parameter in tower.network.parameters()} == {torch.float32}
    tower.image_features([noise(20)], Way("rgb-first", 20))
    assert {parameter.dtype for parameter in tower.network.text_model.parameters()} == {torch.float32}


def test_cosines_by_hand():
    one, other = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [-2.0, 0.0]])
    assert cosines(one, other).tolist() == pytest.approx([24 / 25, -1])
