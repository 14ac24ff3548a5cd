"""The check: what is right is ok, what is off has failed, and what cannot be compared is said to be so."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.card import Example
from rewards.errors import SetupError
from rewards.imagestats import reward as imagestats
from rewards.ocr.self_check import read_drawn_word
from rewards.parse import parse_rewards
from rewards.registry import card_of, cards, find_card, load
from rewards.trust.check import _settle, check
from rewards.trust.pictures import find_picture

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
PICTURES = GOLDEN / "images"
PICTURE = PICTURES / "06_rgb_512x512.png"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec_of(text):
    name = text.partition("[")[0]
    if name == "unifiedreward":
        folder = GOLDEN.parent / "vlm" / name / "tiny_llava_qwen"
        return parse_rewards([f"{name}[max_new_tokens=3]"], weights=[f"{name}={folder}"])[0]
    return parse_rewards([text], weights=[f"{name}={GOLDEN / name}"] if (GOLDEN / name).is_dir() else ())[0]


def as_published(spec, *examples):
    """The reward's card as if the golden files were the published ones, and these scores."""
    card = card_of(spec)
    golden = [(file, [Path(spec.weights) / name for name in (file.path, *file.aliases)]) for file in card.files]
    here = [(file, next((path for path in paths if path.is_file()), None)) for file, paths in golden]
    return replace(
        card,
        examples=examples,
        files=tuple(
            replace(file, size=path.stat().st_size, sha256=sha256(path)) for file, path in here if path is not None
        ),
    )


def golden_example(prompt, shift=0.0, **facts):
    """The recorded score of the original ImageReward on these weights, as if it had been published."""
    golden = json.loads((GOLDEN / "imagereward" / "golden.json").read_text())
    prompts = json.loads((GOLDEN / "prompts.json").read_text())
    row = [Path(name).name for name in golden["images"]].index(PICTURE.name)
    score = golden["scores_image_by_prompt"][row][prompt] + shift
    facts = {"sha256": sha256(PICTURE), "prompt": prompts[prompt], "source": "golden", **facts}
    return Example(f"https://example.org/{PICTURE.name}", score=score, tolerance=1e-3, **facts)


def results(findings):
    return {finding.what: finding.result for finding in findings}


def test_a_right_score_is_ok_and_a_wrong_one_has_failed():
    spec = spec_of("imagereward")
    examples = [golden_example(0), golden_example(2, shift=0.002)]
    findings = check(spec, as_published(spec, *examples), PICTURES)
    assert [finding.result for finding in findings] == ["ok"] * 5 + ["failed"]
    right, wrong = findings[-2:]
    assert re.fullmatch(r"(-?\d+\.\d{4}); published \1 \+- 0\.001 \(golden\)", right.words)
    assert "as published: sha256" in findings[0].words
    assert float(wrong.words.partition(";")[0]) == pytest.approx(examples[1].score - 0.002, abs=1e-3)


def test_the_published_options_are_taken():
    golden = json.loads((GOLDEN / "aesthetic" / "golden.json").read_text())
    row = golden["images"].index("03_rgba_400x302.png")
    picture = PICTURES / golden["images"][row]
    score = golden["scores_original_simple_inference"][row]  # this one resizes before it converts to RGB
    options = (("order", "resize-first"),)
    url = f"https://example.org/{picture.name}"
    example = Example(url, sha256(picture), score, 1e-3, "golden", options=options)
    spec = spec_of("aesthetic")
    assert check(spec, as_published(spec, example), PICTURES)[-1].result == "ok"
    assert check(spec, as_published(spec, replace(example, options=())), PICTURES)[-1].result == "failed"
    assert _settle(spec_of("aesthetic[dtype=bf16]"), example).key == "aesthetic@1[dtype=bf16,order=resize-first]"


def test_other_weights_differ_and_their_scores_are_not_compared():
    findings = check(spec_of("imagereward"), find_card("imagereward"), PICTURES)
    assert results(findings) == {
        "ImageReward.pt": "differs",
        "med_config.json": "differs",
        "vocab.txt": "ok",  # of this file, the golden copy is the published one
        "loading": "ok",
        "published scores": "not checked",
    }
    assert "4436483 bytes instead of 1786880927" in findings[0].words


def test_a_spoilt_file_in_the_cache_has_failed(monkeypatch, tmp_path):
    from rewards.weights.folder import cache_place

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = find_card("imagereward")
    for file in card.files:
        place = cache_place(file)
        assert place is not None
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(GOLDEN / "imagereward" / file.path)
    findings = check(parse_rewards(["imagereward"])[0], card, PICTURES)
    assert findings[0].result == "failed"
    assert "dgpo rewards fetch imagereward" in findings[0].words


def test_missing_weights_are_lacking(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (finding,) = check(parse_rewards(["imagereward"])[0], find_card("imagereward"))
    assert (finding.what, finding.result) == ("weights", "lacking")
    assert "dgpo rewards fetch imagereward" in finding.words


def test_weights_that_do_not_fit_are_lacking(tmp_path):
    for file in (GOLDEN / "imagereward").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "ImageReward.pt").unlink()
    (tmp_path / "ImageReward.pt").write_bytes(b"nothing")
    spec = parse_rewards(["imagereward"], weights=[f"imagereward={tmp_path}"])[0]
    assert results(check(spec, card_of(spec), PICTURES))["loading"] == "lacking"


def test_a_picture_that_is_missing_or_another_is_lacking(monkeypatch, tmp_path):
    spec = spec_of("imagereward")
    card = as_published(spec, golden_example(0, sha256="0" * 64))
    (finding,) = check(spec, card, PICTURES)[4:]
    assert (finding.result, "is not the published picture" in finding.words) == ("lacking", True)
    (finding,) = check(spec, card, tmp_path)[4:]
    assert (finding.result, f"{tmp_path} has no" in finding.words) == ("lacking", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (finding,) = check(spec, card, None)[4:]
    assert (finding.result, "HF_HUB_OFFLINE is set" in finding.words) == ("lacking", True)


def test_the_beginning_of_a_pictures_hash_will_do():
    assert find_picture(golden_example(0, sha256=sha256(PICTURE)[:16]), PICTURES) == PICTURE


@pytest.mark.parametrize("name", ["clipscore", "hpsv2", "pickscore", "unifiedreward"])
def test_without_a_published_score_it_says_why(name):
    findings = check(spec_of(name), find_card(name), PICTURES)
    assert results(findings)["loading"] == "ok"
    assert (findings[-1].what, findings[-1].result) == ("published scores", "not checked")
    assert findings[-1].words == find_card(name).unpublished != ""
    if name == "pickscore":
        assert findings[-2].words == "the file's exp(logit_scale) is 47.94"


@pytest.mark.parametrize(
    ("name", "kind"), [("dark", "DarkShare"), ("edges", "EdgeDensity"), ("colours", "ColourEntropy")]
)
def test_a_picture_worked_out_by_hand(name, kind, monkeypatch):
    name, kind = f"imagestats.{name}", getattr(imagestats, kind)
    (finding,) = check(spec_of(name), find_card(name))
    assert (finding.what, finding.result) == ("drawn picture", "ok")
    monkeypatch.setattr(kind, "of_halves", kind.of_halves + 0.01)
    (finding,) = check(spec_of(name), find_card(name))
    assert finding.result == "failed"


def test_the_drawn_picture_is_half_black_and_half_white():
    assert sorted(imagestats.draw_halves().convert("L").getcolors() or []) == [(8, 0), (8, 255)]


@pytest.mark.parametrize("name", ["ocr", "ocr-strict"])
def test_ocr_reads_a_drawn_word(name):
    (finding,) = check(spec_of(name), find_card(name))
    assert (finding.what, finding.result) == ("drawn word", "ok")
    with pytest.raises(SetupError, match="was shown"):
        read_drawn_word(load(spec_of(name)), "\u4e00\u4e8c")


def test_published_scores_are_of_options_and_files_that_exist():
    examples = [(card, example) for card in cards() for example in card.examples]
    for card, example in examples:
        card.settle_options(example.options)
        assert re.fullmatch(r"[0-9a-f]{16}|[0-9a-f]{64}", example.sha256)
        assert example.url.startswith("https://")
    assert len({example.sha256 for _, example in examples}) == len(examples) == 9
