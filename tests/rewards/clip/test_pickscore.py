"""PickScore against the recorded scores of its two references, all images with all prompts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from rewards.clip.pickscore import PickScore
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load

FOLDER = Path(__file__).parents[2] / "golden" / "clip_family" / "pickscore"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
IMAGES = [Image.open(FOLDER.parent / "images" / name) for name in GOLDEN["images"]]
PROMPTS = [Prompt(text) for text in json.loads((FOLDER.parent / "prompts.json").read_text())]


def build(text="pickscore", folder=FOLDER) -> PickScore:
    reward = load(parse_rewards([text], weights=[f"pickscore={folder}"])[0])
    assert isinstance(reward, PickScore)
    return reward


def values(scores):
    return torch.tensor([score.value for score in scores])


@pytest.fixture(scope="module")
def reward():
    return build()


@pytest.fixture(scope="module")
def table(reward):
    """All 64 pairs, image by prompt."""
    pairs = [(image, prompt) for image in IMAGES for prompt in PROMPTS]
    return values(reward.score(*zip(*pairs, strict=True))).view(8, 8)


def test_raw_scores_are_those_of_the_reference(table):
    wanted = torch.tensor(GOLDEN["raw_scores_image_by_prompt"])
    torch.testing.assert_close(table, wanted, atol=1e-4, rtol=0)


def test_the_train_scale_gives_what_training_code_returns(reward, table):
    wanted = torch.tensor(GOLDEN["flow_grpo_scores_div26_image_by_prompt"])
    torch.testing.assert_close(table * reward.card.train_scale, wanted, atol=1e-5, rtol=0)
    paired = values(reward.score(IMAGES, PROMPTS)) * reward.card.train_scale
    torch.testing.assert_close(paired, torch.tensor(GOLDEN["flow_grpo_paired_batch_div26"]), atol=1e-5, rtol=0)


def test_softmax_gives_the_published_preferences(table):
    wanted = torch.tensor(GOLDEN["readme_calc_probs_per_prompt_over_images"])
    torch.testing.assert_close(table.T.softmax(1), wanted, atol=1e-5, rtol=0)
    two = torch.tensor(GOLDEN["eval_infer_example_images_0_3_prompt_0"])
    torch.testing.assert_close(table[[0, 3], 0].softmax(0), two, atol=1e-5, rtol=0)


def test_alone_and_in_another_order_scores_are_the_same(reward, table):
    for features in reward.tower.features.values():
        features.forget()
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    permuted = values(reward.score([IMAGES[i] for i in order], [PROMPTS[i] for i in order]))
    for features in reward.tower.features.values():
        features.forget()
    alone = values([reward.score([IMAGES[i]], [PROMPTS[i]])[0] for i in order])
    spread = table.max() - table.min()
    assert (permuted - table.diagonal()[order]).abs().max() < 1e-5 * spread
    assert (alone - table.diagonal()[order]).abs().max() < 1e-5 * spread


def test_pairs_cost_one_image_and_one_text_each(reward, monkeypatch):
    """Never all images with all prompts: eight pairs are eight rows through each tower."""
    rows = []
    vision, text = reward.tower._vision, reward.tower._text
    hooks = [
        vision.register_forward_pre_hook(lambda *g: rows.append(len(g[2]["pixel_values"])), with_kwargs=True),
        text.register_forward_pre_hook(lambda *g: rows.append(len(g[2]["input_ids"])), with_kwargs=True),
    ]
    reward.tower.features[reward.published_way].forget()
    reward.score([*IMAGES, *IMAGES[:3]], [*PROMPTS, *PROMPTS[:3]])
    for hook in hooks:
        hook.remove()
    assert sorted(rows) == [8, 8]


def test_an_empty_image_fails_alone(reward, table):
    images = [IMAGES[0], Image.new("RGB", (0, 4)), *IMAGES[2:]]
    scores = score_batch({"it": reward}, images, PROMPTS).scores["it"]
    assert scores[1].value is None
    assert "empty (0 x 4 pixels)" in scores[1].reason
    others = [0, *range(2, 8)]
    torch.testing.assert_close(values([scores[i] for i in others]), table.diagonal()[others], atol=1e-4, rtol=0)


def test_half_precision_keeps_the_factor(reward, table):
    """bf16 would turn the factor 47.94 into 48, and every score into one of 256 steps."""
    half = build("pickscore[dtype=bf16]")
    assert half.tower.logit_scale == pytest.approx(GOLDEN["logit_scale_exp"], rel=1e-7)
    scores = values(half.score(IMAGES, PROMPTS))
    assert not torch.equal(scores, scores.bfloat16().float())
    assert 1e-4 < (scores - table.diagonal()).abs().max() < 1.5


def test_the_hub_folder_as_it_is_gives_the_same(tmp_path, table):
    for source in (FOLDER / "model", FOLDER / "processor"):
        for file in source.iterdir():
            shutil.copy(file, tmp_path / file.name)
    reward = build(folder=tmp_path)
    assert torch.equal(values(reward.score(IMAGES, PROMPTS)), values(build().score(IMAGES, PROMPTS)))
    assert {path.parent for path in reward.files.values()} == {tmp_path}


def test_weights_without_a_tokenizer_cannot_be_built(tmp_path):
    for source in (FOLDER / "model", FOLDER / "processor"):
        for file in source.glob("*"):
            if file.name not in ("vocab.json", "merges.txt", "tokenizer.json"):
                shutil.copy(file, tmp_path / file.name)
    with pytest.raises(SetupError, match="There is no tokenizer in"):
        build(folder=tmp_path)


def test_what_is_recorded_of_a_run(reward):
    record = reward.provenance()
    assert record["engine"] == "transformers"
    assert (record["device"], record["dtype"]) == ("cpu", "fp32") or torch.cuda.is_available()
    assert "model.safetensors sha256:" in record["weights"]
    assert "vocab.json sha256:" in record["weights"]


def test_no_images_have_no_scores(reward):
    assert reward.score([], []) == []
