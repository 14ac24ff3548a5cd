"""The two cards end to end: mmdet's recorded detections from PNG, the recorded verdicts, weights in all their forms."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rewards import registry
from rewards.clip.aesthetic import Aesthetic
from rewards.errors import SetupError, UsageError
from rewards.geneval import detector
from rewards.geneval.clauses import read_request
from rewards.geneval.crops import crop_object
from rewards.geneval.detail import Detail, read_detail
from rewards.geneval.detection_cache import DetectionCache
from rewards.geneval.detections import keep_objects
from rewards.geneval.objects import OBJECTS
from rewards.geneval.reward import GenEval
from rewards.geneval.rules import judge
from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from rewards.registry import build
from rewards.scoring.questions import verify
from tests.rewards.geneval.test_rules import CASES, PALETTE, paint, raw_of

GOLDEN = Path(__file__).parents[2] / "golden" / "geneval"
WEIGHTS = GOLDEN / "geneval"
PROMPT = Prompt("a bench", {"tag": "single_object", "include": [{"class": "bench", "count": 1}]})


def load(spec) -> GenEval:
    reward = registry.load(spec)
    assert isinstance(reward, GenEval)
    return reward


def account_of(score) -> Detail:
    account = read_detail(score.detail)
    assert account is not None
    return account


def spec_of(text, folder=WEIGHTS):
    return parse_rewards([text], weights=[f"{text.partition('[')[0]}={folder}"])[0]


def recorded(name, inputs):
    """mmdet's detections of a golden picture, as a detector returns them."""
    with np.load(GOLDEN / "detector" / f"{name}_{inputs}.npz") as file:
        shape = tuple(file["masks_shape"])
        masks = np.unpackbits(file["masks_packed"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        labels, rows = file["labels"], file["boxes_scores"]
        return [(rows[labels == label], masks[labels == label]) for label in range(len(OBJECTS))]


def prompts_about(detected):
    """For each class that is there, prompts that it fulfils, misses and may fulfil, with colours."""
    for name, found in detected.items():
        count = len(found)
        wanted = [{"class": name, "count": count}]
        yield Prompt("all", {"tag": "counting", "include": wanted, "exclude": [{"class": name, "count": count + 1}]})
        yield Prompt("all", {"tag": "two_object", "include": [{"class": name, "count": count}]})
        yield Prompt("one more", {"tag": "two_object", "include": [{"class": name, "count": count + 1}]})
        for colour in ("black", "brown", "blue"):
            include = [{"class": name, "count": count, "color": colour}]
            yield Prompt("colour", {"tag": "colors", "include": include})
        include = [{"class": name, "count": count}, {"class": name, "count": count, "position": ["left of", 0]}]
        yield Prompt("place", {"tag": "position", "include": include})


@pytest.mark.parametrize(
    ("name", "options", "inputs"),
    [("sq512", "", "file"), ("land", "", "file"), ("sq512", "[channels=swapped]", "rgbarray")],
)
def test_scores_from_the_png_are_those_of_the_recorded_detections(name, options, inputs):
    image, raw = Image.open(GOLDEN / "detector" / f"{name}.png").convert("RGB"), recorded(name, inputs)
    prompts = list(prompts_about(keep_objects(raw, "")))
    for card in ("geneval", "geneval-official"):
        reward = load(spec_of(card + options))
        scores = reward.score([image] * len(prompts), prompts)
        for prompt, score in zip(prompts, scores, strict=True):
            request = read_request(prompt)

            def classify(found, name, reward=reward):
                return reward.colours.classify([crop_object(image, one) for one in found], [name] * len(found))

            rules = "graded" if card == "geneval" else "official"
            wanted = judge(request, keep_objects(raw, request.tag), classify, rules)
            assert score.value == pytest.approx(wanted.score, abs=1e-12)
            account = account_of(score)
            assert (account.correct, account.strict, account.task) == (wanted.correct, wanted.strict, request.tag)
            assert wanted.reason.replace("\n", "; ") in score.detail
        assert len({score.value for score in scores}) > 1


@pytest.mark.parametrize("card", ["geneval", "geneval-official"])
def test_all_recorded_cases_in_one_call(card):
    """The recorded classifier in place of CLIP; each case's colours are asked for beforehand, and those are enough."""

    def nearest(crops, names):
        means = [np.asarray(crop, np.float64).reshape(-1, 3).mean(0) for crop in crops]
        return [min(PALETTE, key=lambda colour: ((mean - PALETTE[colour]) ** 2).sum()) for mean in means]

    reward = load(spec_of(card))
    reward.detector = SimpleNamespace(look=lambda images: [raw_of(case) for case in CASES])  # pyright: ignore[reportAttributeAccessIssue]
    reward.colours = SimpleNamespace(classify=nearest)  # pyright: ignore[reportAttributeAccessIssue]
    prompts = [
        Prompt(case["metadata"]["prompt"], {k: v for k, v in case["metadata"].items() if k != "prompt"})
        for case in CASES
    ]
    scores = reward.score([paint(case["image"]) for case in CASES], prompts)
    for case, score in zip(CASES, scores, strict=True):
        official, graded = case["expected"]["official"], case["expected"]["reward"]
        account = account_of(score)
        assert (account.correct, account.strict) == (official["correct"], graded["strict_correct"])
        wanted, reason = (
            (graded["score"], graded["reason"]) if card == "geneval" else (official["correct"], official["reason"])
        )
        assert score.value == pytest.approx(float(wanted), abs=1e-12)
        assert reason.replace("\n", "; ") in score.detail
    assert len(scores) == 125


@pytest.fixture
def small(monkeypatch):
    """The real path on smaller pictures, in a tenth of the time; nothing seen before is remembered."""
    monkeypatch.setattr(detector, "SHORT_SIDE", 160)
    monkeypatch.setattr(detector, "LONG_SIDE", 266)
    monkeypatch.setattr(DetectionCache, "_remember", lambda *_: None)


def test_both_cards_look_at_an_image_once(monkeypatch):
    monkeypatch.setattr(detector, "SHORT_SIDE", 96)
    first, second = load(spec_of("geneval")), load(spec_of("geneval-official"))
    assert first.detector is second.detector
    assert first.colours is second.colours
    seen = []
    detect = first.detector._detect
    monkeypatch.setattr(first.detector, "_detect", lambda images: (seen.append(len(images)), detect(images))[1])
    image = Image.new("RGB", (64, 64), (200, 30, 31))
    first.score([image, image.copy()], [PROMPT, PROMPT])
    second.score([image], [PROMPT])
    assert seen == [1]


def test_other_options_share_nothing_they_should_not():
    one, swapped, gelu = (load(spec_of(f"geneval{o}")) for o in ("", "[channels=swapped]", "[activation=gelu]"))
    assert one.detector is not swapped.detector
    assert one.colours is swapped.colours
    assert one.detector is gelu.detector
    assert one.colours is not gelu.colours
    aesthetic = parse_rewards(["aesthetic"], weights=[f"aesthetic={GOLDEN.parent / 'clip_family' / 'aesthetic'}"])[0]
    other = registry.load(aesthetic)
    assert isinstance(other, Aesthetic)
    assert other.tower is one.colours.tower


def test_fixed_rules_have_bounds_and_the_official_card_has_no_rules():
    assert load(spec_of("geneval")).card.bounds == (None, 1.0)
    assert load(spec_of("geneval[rules=fixed]")).card.bounds == (0.0, 1.0)
    with pytest.raises(UsageError, match='no option "rules"'):
        spec_of("geneval-official[rules=fixed]")


def test_a_prompt_without_a_record_is_refused_before_anything_is_drawn():
    with pytest.raises(UsageError, match='GenEval cannot judge the prompt "a dog"'):
        load(spec_of("geneval")).check(Prompt("a dog"))


def test_provenance_names_the_files_by_their_own_names():
    facts = load(spec_of("geneval[dtype=bf16]")).provenance()
    assert "tiny_mmdet2.pth sha256:4e16bba6" in facts["weights"]
    assert "743b7d99" not in facts["weights"]
    assert (facts["engine"], facts["detector"], facts["dtype"], facts["device"]) == (
        "transformers",
        "native",
        "bf16",
        "cpu",
    )


def test_half_precision_reaches_the_backbone_and_the_tower(small):
    reward = load(spec_of("geneval[dtype=bf16]"))
    image = Image.open(GOLDEN / "detector" / "land.png")
    request = {"tag": "colors", "include": [{"class": "bicycle", "count": 1, "color": "red"}]}
    (score,) = reward.score([image], [Prompt("a red bicycle", request)])
    assert score.ok
    assert reward.colours.tower.dtype == torch.bfloat16
    raw, whole = (load(spec_of(text)).detector.look([image])[0] for text in ("geneval[dtype=bf16]", "geneval"))
    assert any(not np.array_equal(one, other) for (one, _), (other, _) in zip(raw, whole, strict=True))


def lay_out(folder, state=None, clip=True):
    """A weights folder like the golden one, with another checkpoint if its tensors are given."""
    folder.mkdir(exist_ok=True)
    (folder / "arch.json").symlink_to(WEIGHTS / "arch.json")
    if clip:
        (folder / "clip").symlink_to(WEIGHTS / "clip")
    if state is None:
        (folder / "any.pth").symlink_to(WEIGHTS / "tiny_mmdet2.pth")
    else:
        torch.save({"state_dict": state}, folder / "any.pth")
    return folder


@pytest.fixture
def blind(tmp_path):
    """Weights whose class head says nothing: each of 81 classes has the same probability."""
    state = torch.load(WEIGHTS / "tiny_mmdet2.pth", weights_only=True)["state_dict"]
    head = "panoptic_head.cls_embed"
    return lay_out(
        tmp_path / "blind",
        {**state, **{f"{head}.{k}": torch.zeros_like(state[f"{head}.{k}"]) for k in ("weight", "bias")}},
    )


def test_training_refuses_a_detector_that_finds_nothing(small, blind, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(GOLDEN / "detector" / "land.png").save(photos / "street.png")
    verify(build([spec_of("geneval"), spec_of(f"geneval[trial={photos}]")]))
    with pytest.raises(
        SetupError, match=r"in any of these pictures: the drawn stop sign.*geneval\.trial=DIR.*trial=none"
    ):
        verify(build([spec_of("geneval", blind)]))
    with pytest.raises(SetupError, match=r"in any of these pictures: street\.png\. Its weights"):
        verify(build([spec_of(f"geneval[trial={photos}]", blind)]))
    verify(build([spec_of("geneval[trial=none]", blind)]))


def test_the_blind_detector_still_scores_and_says_it_found_nothing(small, blind):
    (score,) = load(spec_of("geneval", blind)).score([Image.new("RGB", (64, 64))], [PROMPT])
    assert score.detail == "correct=no strict=no task=single_object | expected bench==1, found 0 | found nothing"
    assert score.value == 0.0


def test_pictures_to_try_are_said_to_be_missing(tmp_path):
    with pytest.raises(SetupError, match="has no pictures"):
        load(spec_of(f"geneval[trial={tmp_path}]")).verify()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(SetupError, match="cannot be read as a picture"):
        load(spec_of(f"geneval[trial={tmp_path}]")).verify()


def test_a_single_checkpoint_of_any_name_is_taken_and_two_are_refused(tmp_path):
    folder = lay_out(tmp_path / "weights")
    load(spec_of("geneval", folder))
    (folder / "second.pth").symlink_to(WEIGHTS / "tiny_mmdet2.pth")
    with pytest.raises(SetupError, match=r"holds any\.pth, second\.pth, and geneval needs a single \*\.pth"):
        load(spec_of("geneval", folder))


@pytest.mark.parametrize("place", ["open_clip_model.safetensors", "clip/open_clip_model.safetensors"])
def test_a_clip_in_open_clips_format_needs_no_other_file(small, tmp_path, place):
    torch.manual_seed(1)
    sizes = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    folder = lay_out(tmp_path / "weights", clip=False)
    (folder / place).parent.mkdir(exist_ok=True)
    save_file({k: v.clone() for k, v in open_clip.CLIP(**sizes, quick_gelu=True).state_dict().items()}, folder / place)
    reward = load(spec_of("geneval", folder))
    assert reward.colours.tower.image_size == 28
    image, include = Image.open(GOLDEN / "detector" / "land.png"), [{"class": "bench", "count": 1, "color": "red"}]
    (score,) = load(spec_of("geneval-official", folder)).score(
        [image], [Prompt("x", {"tag": "colors", "include": include})]
    )
    assert score.value in (0.0, 1.0)


def test_a_hub_network_without_its_config_is_a_sentence(tmp_path):
    folder = lay_out(tmp_path / "weights", clip=False)
    (folder / "clip").mkdir()
    (folder / "clip" / "model.safetensors").symlink_to(WEIGHTS / "clip" / "model.safetensors")
    with pytest.raises(SetupError, match=r"needs the config\.json that is published with it"):
        load(spec_of("geneval", folder))


def test_mmdet_needs_its_config_and_itself(tmp_path):
    with pytest.raises(SetupError, match=r"detector=mmdet needs mmdet's config file beside the checkpoint"):
        load(spec_of("geneval[detector=mmdet]"))
    folder = lay_out(tmp_path / "weights")
    (folder / "config.py").write_text("")
    with pytest.raises(SetupError, match="detector=mmdet needs an mmdet that loads"):
        load(spec_of("geneval[detector=mmdet]", folder))


def test_the_published_files_are_named_as_published():
    (published,) = [file for file in load(spec_of("geneval")).card.files if file.path.endswith(".pth")]
    assert published.url.endswith(f"/{published.path}")
    assert str(published.sha256) in published.path
    assert json.loads((WEIGHTS / "arch.json").read_text())["classes"] == 80
