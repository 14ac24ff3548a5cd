"""Random checkpoints: the published names, sizes and files, and every reward takes them for the real ones."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.machines.random_checkpoints import draw_tensors, published_shapes, write_checkpoint
from rewards.errors import UsageError
from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from rewards.registry import find_card, load
from rewards.weights.folder import locate

GOLDEN = Path(__file__).parents[2] / "golden" / "clip_family"
MAIN_FILE = {
    "imagereward": "ImageReward.pt",
    "pickscore": "model/model.safetensors",
    "clipscore": "clip/model.safetensors",
    "aesthetic": "sac+logos+ava1-l14-linearMSE.pth",
    "hpsv2": "HPS_v2.1_compressed.pt",
}
NAMES = tuple(MAIN_FILE)


def golden_shapes(name):
    path = GOLDEN / name / MAIN_FILE[name]
    state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    state = state.get("state_dict", state)
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def without_numbers(names):
    return {re.sub(r"\.\d+\.", ".N.", name) for name in names}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: write_checkpoint(name, folder / name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_names_are_those_of_the_recorded_files(name):
    assert without_numbers(published_shapes(name, "tiny")) == without_numbers(golden_shapes(name))


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_of_another_size_than_the_recorded_files(name):
    ours, theirs = published_shapes(name, "tiny"), golden_shapes(name)
    same = [key for key in ours if ours[key] == theirs.get(key) and math.prod(ours[key]) > 1]
    assert [key for key in same if "position" not in key] == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("imagereward", 446_665_953),
        ("pickscore", 986_109_441),
        ("hpsv2", 986_109_441),
        ("clipscore", 427_616_513),
        ("aesthetic", 927_969),
    ],
)
def test_full_has_the_published_number_of_parameters(name, parameters):
    shapes = published_shapes(name, "full")
    assert sum(math.prod(shape) for key, shape in shapes.items() if "position_ids" not in key) == parameters


@pytest.mark.parametrize("name", NAMES)
def test_every_required_file_of_the_card_is_written(written, name):
    found = locate(find_card(name), str(written[name]))
    assert {file.path for file in find_card(name).files if file.required} <= found.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_reward_scores_with_them(written, name):
    reward = load(parse_rewards([name], weights=[f"{name}={written[name]}"])[0])
    images = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("RGB", (40, 30), "red")]
    scores = reward.score(images, [Prompt("a red cat"), Prompt("a slope"), Prompt("a wall")])
    assert all(score.checked().ok for score in scores)
    assert len({round(score.value, 5) for score in scores if score.value is not None}) == 3


def test_clips_tokenizer_is_openais(written):
    theirs = GOLDEN / "pickscore" / "processor"
    ours = written["pickscore"]
    assert json.loads((ours / "vocab.json").read_text()) == json.loads((theirs / "vocab.json").read_text())
    assert (ours / "merges.txt").read_text() == (theirs / "merges.txt").read_text()


def test_berts_vocabulary_has_distinct_words_and_the_published_places_of_special_tokens(written):
    words = (written["imagereward"] / "vocab.txt").read_text().split("\n")[:-1]
    assert len(set(words)) == len(words) == 5000
    assert [words.index(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 100, 101, 102, 103]


def test_two_rewards_share_a_clip_that_is_linked(written, tmp_path):
    (tmp_path / "clip").symlink_to(written["clipscore"] / "clip")
    write_checkpoint("aesthetic", tmp_path)
    assert (tmp_path / "clip").resolve() == (written["clipscore"] / "clip").resolve()


def test_tensors_follow_their_seed():
    shapes = published_shapes("aesthetic", "tiny")
    one, two, other = (draw_tensors(shapes, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[key], two[key]) for key in shapes)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])


def test_matrices_keep_the_size_of_what_they_multiply():
    matrix = draw_tensors({"dense.weight": (400, 100)}, seed=0)["dense.weight"]
    x = torch.randn(100, 50, generator=torch.Generator().manual_seed(1))
    assert (matrix @ x).std().item() == pytest.approx(1, abs=0.05)


def test_an_unknown_name_gets_a_suggestion(tmp_path):
    with pytest.raises(UsageError, match='Did you mean "hpsv2"'):
        write_checkpoint("hpsv", tmp_path)
