"""The obvious way of calling each reward gives the reference's numbers, so that it is a fair opponent."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.machines.plain_scorers import PLAIN
from rewards.networks.device import exactly

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
CPU = torch.device("cpu")
EXPECTED = {
    "imagereward": ("scores_image_by_prompt", 1e-4),
    "pickscore": ("raw_scores_image_by_prompt", 1e-4),
    "aesthetic": ("scores_flow_grpo_hf_pil_rgb", 1e-4),
    "hpsv2": ("scores_antialias_true_rgb_image_by_prompt", 1e-5),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """PickScore's network and processor are recorded apart; here they are one folder, as on the hub."""
    together = tmp_path_factory.mktemp("pickscore")
    for part in ("processor", "model"):
        for file in (GOLDEN / "pickscore" / part).iterdir():
            (together / file.name).unlink(missing_ok=True)
            (together / file.name).symlink_to(file)
    return {name: GOLDEN / name for name in PLAIN} | {"pickscore": together}


@pytest.mark.parametrize("name", EXPECTED)
def test_scores_are_those_of_the_reference(folders, name):
    key, tolerance = EXPECTED[name]
    recorded = json.loads((GOLDEN / name / "golden.json").read_text())
    texts = json.loads((GOLDEN / "prompts.json").read_text())
    judge = PLAIN[name](folders[name], CPU)
    for i in (0, 3, 7):
        expected = recorded[key][i]
        image = Image.open(GOLDEN / "images" / recorded["images"][i])
        with exactly(CPU):
            if not isinstance(expected, list):
                assert judge(image, "") == pytest.approx(expected, abs=tolerance)
                continue
            for text, value in zip(texts, expected, strict=True):
                assert judge(image, text) == pytest.approx(value, abs=tolerance)


def test_clipscore_is_the_cosine_of_transformers(folders):
    """For a plain text and an image that needs no resizing, all definitions of the cosine agree."""
    recorded = json.loads((GOLDEN / "clipscore" / "golden.json").read_text())
    texts = json.loads((GOLDEN / "prompts.json").read_text())
    image = Image.open(GOLDEN / "images" / recorded["images"][2])
    with exactly(CPU):
        value = PLAIN["clipscore"](folders["clipscore"], CPU)(image, texts[0])
    assert value == pytest.approx(recorded["cosine_openai_reference_image_by_prompt"][2][0], abs=1e-6)
