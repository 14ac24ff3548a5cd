"""CLIPScore's definitions: two against recorded scores of their originals, the others by their formulas."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rewards.clip.clipscore import ClipScore
from rewards.clip.network import cosines
from rewards.clip.tokens import ClipTokens
from rewards.errors import SetupError, UsageError
from rewards.networks.preprocess import Way
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import find_card, load

FOLDER = Path(__file__).parents[2] / "golden" / "clip_family" / "clipscore"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
IMAGES = [Image.open(FOLDER.parent / "images" / name) for name in GOLDEN["images"]]
PROMPTS = [Prompt(text) for text in json.loads((FOLDER.parent / "prompts.json").read_text())]


def build(definition="cosine", folder=FOLDER, **options) -> ClipScore:
    settings = ",".join(f"{name}={value}" for name, value in {"definition": definition, **options}.items())
    reward = load(parse_rewards([f"clipscore[{settings}]"], weights=[f"clipscore={folder}"])[0])
    assert isinstance(reward, ClipScore)
    return reward


def table(reward):
    """All 64 pairs, image by prompt."""
    pairs = [(image, prompt) for image in IMAGES for prompt in PROMPTS]
    scores = reward.score(*zip(*pairs, strict=True))
    return torch.tensor([score.value for score in scores], dtype=torch.float64).view(8, 8)


def expect(scores, wanted, atol):
    torch.testing.assert_close(scores, torch.as_tensor(wanted, dtype=torch.float64), atol=atol, rtol=0)


@pytest.fixture(scope="module")
def hf_cosine():
    return table(build("hf-cosine"))


def test_cosines_are_those_of_openais_clip():
    expect(table(build()), GOLDEN["cosine_openai_reference_image_by_prompt"], atol=1e-6)


def test_dgpos_scorer_is_reproduced():
    """Recorded with a torchvision that did not antialias tensors."""
    wanted = GOLDEN["dgpo_clip_scorer_div30_image_by_prompt"]
    expect(table(build("dgpo", antialias="false")), wanted, atol=1e-5)
    assert (table(build("dgpo")) - torch.tensor(wanted)).abs().max() > 1e-3


@pytest.mark.parametrize("antialias", ["true", "false"])
def test_diffusionnft_divides_by_100_instead(antialias):
    expect(table(build("diffusionnft", antialias=antialias)), 0.3 * table(build("dgpo", antialias=antialias)), 1e-6)


def test_transformers_cosine_is_of_its_own_tokens_and_pixels(hf_cosine):
    tower = build().tower
    texts = tower.text_features([p.text for p in PROMPTS], ClipTokens(FOLDER / "clip", 77).published)
    images = tower.image_features(IMAGES, Way("rgb-first", 224))
    expect(hf_cosine.diagonal(), cosines(images, texts), atol=1e-6)
    off = (hf_cosine - torch.tensor(GOLDEN["cosine_openai_reference_image_by_prompt"])).abs()
    assert off[[0, 1, 2, 6]][:, [0, 1, 2, 4, 7]].max() < 1e-6  # what both see alike
    assert off[:, [3, 5]].max() > 0.01  # curly quotes and entities
    assert off[3, 0] > 1e-3  # transparency


def test_torchmetrics_is_a_hundred_cosines_cut_at_zero(hf_cosine):
    scores = table(build("torchmetrics"))
    expect(scores, (100 * hf_cosine).clamp(min=0), atol=1e-5)
    assert (scores == 0).any()
    assert (scores > 0).any()


def test_the_paper_cuts_at_zero_and_puts_words_in_front():
    prefixed = [Prompt(f"A photo depicts {prompt.text}") for prompt in PROMPTS]
    cosine = torch.tensor([score.value for score in build().score(IMAGES, prefixed)], dtype=torch.float64)
    scores = table(build("paper")).diagonal()
    expect(scores, (2.5 * cosine).clamp(min=0), atol=1e-6)
    assert (scores > 0).any()


@pytest.mark.parametrize(
    ("definition", "unit", "bounds"),
    [
        ("cosine", "cosine", (-1, 1)),
        ("hf-cosine", "cosine", (-1, 1)),
        ("dgpo", "logit / 30", (-100 / 30, 100 / 30)),
        ("diffusionnft", "logit / 100", (-1, 1)),
        ("torchmetrics", "100 * cosine, at least 0", (0, 100)),
        ("paper", "2.5 * cosine, at least 0", (0, 2.5)),
    ],
)
def test_unit_and_bounds_are_those_of_the_definition(definition, unit, bounds):
    card = build(definition).card
    assert card.unit == unit
    assert card.bounds == pytest.approx(bounds, rel=1e-7)
    assert card.name == "clipscore"


def test_every_definition_of_the_card_is_tested_here():
    options = {option.name: option.choices for option in find_card("clipscore").options}
    assert options["definition"] == ("cosine", "hf-cosine", "dgpo", "diffusionnft", "torchmetrics", "paper")


@pytest.mark.parametrize("definition", ["cosine", "hf-cosine", "torchmetrics", "paper"])
def test_an_option_that_would_change_nothing_is_refused(definition):
    with pytest.raises(UsageError, match="antialias=false is for definition=dgpo and definition=diffusionnft alone"):
        build(definition, antialias="false")


@pytest.mark.parametrize("definition", ["cosine", "dgpo"])
def test_alone_scores_are_the_same(definition):
    reward = build(definition)
    together: Any = [score.value for score in reward.score(IMAGES, PROMPTS)]
    alone = []
    for image, prompt in zip(IMAGES, PROMPTS, strict=True):
        reward.tower.features[reward.way].forget()
        alone += [score.value for score in reward.score([image], [prompt])]
    assert alone == pytest.approx(together, rel=0, abs=1e-5 * (max(together) - min(together)))


def test_half_precision_keeps_the_cosine_whole():
    scores = table(build(dtype="bf16"))
    assert not torch.equal(scores, scores.bfloat16().double())
    assert 1e-6 < (scores - torch.tensor(GOLDEN["cosine_openai_reference_image_by_prompt"])).abs().max() < 0.02


def test_an_empty_image_fails_alone():
    images = [*IMAGES[:7], Image.new("RGB", (0, 0))]
    scores = score_batch({"it": build("dgpo")}, images, PROMPTS).scores["it"]
    assert [score.ok for score in scores] == [True] * 7 + [False]
    assert "empty (0 x 0 pixels)" in scores[7].reason


def test_weights_without_a_tokenizer_cannot_be_built(tmp_path):
    (tmp_path / "clip").mkdir()
    for file in (FOLDER / "clip").iterdir():
        if file.name not in ("vocab.json", "merges.txt"):
            shutil.copy(file, tmp_path / "clip")
    with pytest.raises(SetupError, match=r"There is no tokenizer in .*clip"):
        build(folder=tmp_path)


def test_without_ftfy_only_openais_tokens_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    build("hf-cosine")
    with pytest.raises(SetupError, match=r"pip install 'dgpo\[openclip\]'"):
        build("cosine")
