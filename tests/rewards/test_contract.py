"""What every reward promises, tested on every entry of the table.

Rewards with weights are built from the small random checkpoints of tests/golden, in the published formats.
"""

import gc
import importlib.util
import io
import socket
import weakref
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from rewards.errors import SetupError
from rewards.geneval import detector
from rewards.geneval.detection_cache import DetectionCache
from rewards.networks.features import Features, Memory
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import card_of, cards, load
from rewards.score import Score
from rewards.shared import held
from rewards.vlm import unifiedreward
from rewards.vlm.local import Answerer

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_family"
VLM = Path(__file__).parents[1] / "golden" / "vlm"
GENEVAL = Path(__file__).parents[1] / "golden" / "geneval" / "geneval"
WORDS = ("ANCHOR", "basket", "COFFEE", "dragon", "EMPIRE", "flower", "GINGER", "hammer")
SIZES = ((160, 64), (96, 32), (128, 64), (128, 128), (200, 48), (64, 32), (320, 64), (192, 96))
# CLIPScore's definitions with a floor at 0 are not here: these random weights give cosines below it.
VARIANTS = (
    "ocr[weights=v4]",
    "ocr[detect=false]",
    "ocr[padding=none]",
    "ocr[channels=bgr]",
    "aesthetic[order=resize-first]",
    "clipscore[definition=hf-cosine]",
    "clipscore[definition=dgpo]",
    "clipscore[definition=diffusionnft,antialias=false]",
    "hpsv2[antialias=false]",
    "deqa[transport=jpeg75]",
    "unifiedreward[max_new_tokens=4,question=elements]",
    "geneval[rules=fixed]",
    "geneval[channels=swapped]",
    "geneval-official[activation=gelu]",
)
# What GenEval's rewards look for in turn; the others read the text only.
ASKED = (
    {"tag": "two_object", "include": [{"class": "elephant", "count": 3}]},
    {"tag": "color_attr", "include": [{"class": "cup", "count": 1, "color": "red"}, {"class": "toaster", "count": 1}]},
)
# Share of the scores' spread by which the order and size of batches may move a score, in fp32.
SPLIT = 1e-5


def spec_of(text):
    name = text.partition("[")[0]
    folder = GENEVAL if name.startswith("geneval") else (VLM if name == "deqa" else GOLDEN) / name
    if name == "unifiedreward":
        folder = VLM / name / ("tiny_qwen25vl" if "elements" in text else "tiny_llava_qwen")
        text = text if "[" in text else "unifiedreward[max_new_tokens=4]"
    return parse_rewards([text], weights=[f"{name}={folder}"] if folder.is_dir() else ())[0]


@pytest.fixture(scope="module", params=[*(card.name for card in cards()), *VARIANTS])
def reward(request):
    if "v4" in request.param and importlib.util.find_spec("rapidocr_onnxruntime") is None:
        pytest.skip("PP-OCRv4 weights come with rapidocr_onnxruntime (pip install 'dgpo[demo]')")
    return load(spec_of(request.param))


@pytest.fixture(scope="module", autouse=True)
def no_memory():
    """Every score is made anew: features that were kept would hide what these tests look for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Memory, "keep", lambda *_: None)
        patch.setattr(DetectionCache, "_remember", lambda *_: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def coarse_detector():
    """GenEval's detector sees every image with a side of 160 pixels instead of 800, in a twentieth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "SHORT_SIDE", 160)
        patch.setattr(detector, "LONG_SIDE", 266)
        yield


@pytest.fixture(scope="module", autouse=True)
def any_words_are_a_score():
    """Random weights of a language model write no score; here each thing that they write stands for a number."""

    def read(reply):
        return Score(1 + zlib.crc32(reply.text.encode()) % 4001 / 1000, reply.text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unifiedreward, "read_final", read)
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Not even an attempt: HF_HUB_OFFLINE would keep only one library from it."""

    def refuse(_socket, address):
        raise AssertionError(f"a reward went to the network: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def images(word_image):
    sized = zip(WORDS, SIZES, strict=True)
    return [word_image(word, width=w, height=h, look=look) for look, (word, (w, h)) in enumerate(sized)]


@pytest.fixture(scope="module")
def prompts():
    return [Prompt(f'a sign that says "{word}"', ASKED[place % 2]) for place, word in enumerate(WORDS)]


@pytest.fixture(scope="module")
def scores(reward, images, prompts):
    return reward.score(images, prompts)


@pytest.fixture(scope="module")
def agree(scores):
    """Whether other scores of the same images are the same: details equal, values within SPLIT of their spread."""
    values = [score.value for score in scores]
    tolerance = SPLIT * (max(values) - min(values))

    def compare(others, expected=scores):
        assert [score.detail for score in others] == [score.detail for score in expected]
        assert [score.value for score in others] == pytest.approx(
            [score.value for score in expected], rel=0, abs=tolerance
        )

    return compare


def test_prompts_pass_the_check(reward, prompts):
    for prompt in prompts:
        reward.check(prompt)


@pytest.mark.parametrize("parts", [(1,) * 8, (3, 5), (2, 4, 2), (7, 1)])
def test_the_split_into_batches_does_not_matter(reward, images, prompts, agree, parts):
    others = []
    for size in parts:
        start = len(others)
        others += reward.score(images[start : start + size], prompts[start : start + size])
    agree(others)


def test_order_does_not_matter(reward, images, prompts, scores, agree):
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    permuted = reward.score([images[i] for i in order], [prompts[i] for i in order])
    agree(permuted, [scores[i] for i in order])


def test_an_image_is_judged_with_its_own_prompt(reward, images, prompts, scores):
    """A batch scored as all pairs, or with the prompts in another order, would show here."""
    if not reward.card.reads_prompt:
        pytest.skip("this score is the image's alone")
    shifted = reward.score(images, [*prompts[1:], prompts[0]])
    assert any(other.value != score.value for other, score in zip(shifted, scores, strict=True))


def test_the_same_images_have_the_same_scores(reward, images, prompts, scores):
    assert reward.score(images, prompts) == scores


def test_what_it_holds_is_let_go_and_loaded_again(reward, images, prompts, scores):
    large = [weakref.ref(vars(reward)[name]) for name in reward.large]
    reward.forget()
    assert [one() for one in large] == [None] * len(large)
    assert not large or held() == []
    assert reward.score(images, prompts) == scores
    assert not large or held()


def test_its_card_is_known_without_it(reward):
    assert reward.card == card_of(reward.spec)


def test_values_are_within_the_bounds_of_the_card(reward, scores):
    low, high = reward.card.bounds
    for score in scores:
        assert score.ok
        assert low is None or score.value >= low
        assert high is None or score.value <= high


def test_scores_tell_images_apart(reward, images, prompts, scores):
    """A reward stuck at one number would pass most of the other tests."""
    blank = [Image.new("RGB", image.size, (90, 90, 90)) for image in images]
    assert reward.score(blank, prompts) != scores


def test_a_png_round_trip_changes_nothing(reward, images, prompts, scores):
    again = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        again.append(Image.open(io.BytesIO(buffer.getvalue())))
    assert reward.score(again, prompts) == scores


def test_networks_set_to_training_mode_score_the_same(reward, images, prompts, scores):
    """Dropout and the like must stay off, whoever calls .train() on what this process holds."""
    networks = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.nn.Module)]
    for network in networks:
        network.train()
    assert reward.score(images, prompts) == scores


def test_half_precision_is_for_the_networks_only(reward, images, prompts, scores):
    """bf16 has 8 bits; a head or similarity computed in it could give no other values than these."""
    if "dtype" not in {option.name for option in reward.card.options}:
        pytest.skip("this reward has no dtype option")
    if reward.card.name.startswith("geneval"):
        pytest.skip("a count of objects does not tell how precisely it was computed")
    if reward.card.name == "unifiedreward":
        pytest.skip("words do not tell how precisely they were computed")
    settings = ",".join(f"{name}={value}" for name, value in (*reward.spec.options, ("dtype", "bf16")))
    half = load(spec_of(f"{reward.spec.name}[{settings}]"))
    values = [score.value for score in half.score(images, prompts)]
    assert values != [torch.tensor(value).bfloat16().item() for value in values]
    assert values != [score.value for score in scores]
    spread = max(score.value for score in scores) - min(score.value for score in scores)
    assert values == pytest.approx([score.value for score in scores], rel=0, abs=max(0.25 * spread, 0.02))


def test_missing_weights_are_a_sentence_with_the_way_out(reward, tmp_path):
    if not reward.card.files:
        pytest.skip("this reward fetches nothing")
    for weights, words in ((f"{reward.spec.name}={tmp_path}", str(tmp_path)), (None, "dgpo rewards fetch")):
        (spec,) = parse_rewards([reward.spec.name], weights=[weights] if weights else ())
        with pytest.raises(SetupError, match=reward.card.files[0].path.replace("+", r"\+")) as caught:
            load(spec)
        assert words in str(caught.value)


def test_what_cannot_be_judged_is_never_a_number(reward, images, prompts, scores, agree):
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG")
    truncated = Image.open(io.BytesIO(buffer.getvalue()[:-60]))
    spoilt = [truncated, Image.new("RGB", (0, 5)), *images[2:]]
    result = score_batch({"it": reward}, spoilt, prompts).scores["it"]
    for score in result[:2]:
        assert score.value is None
        assert score.reason
    agree(result[2:], scores[2:])


def test_a_failing_engine_is_a_failed_score(reward, images, prompts, monkeypatch):
    """Break what each reward measures with, below the reward itself."""

    def fail(*_args, **_kwargs):
        raise RuntimeError("out of memory")

    if hasattr(reward, "detector"):
        monkeypatch.setattr(DetectionCache, "look", fail)
    elif hasattr(getattr(reward, "engine", None), "_engine"):
        monkeypatch.setattr(reward.engine, "_engine", fail)
    elif hasattr(reward, "backend"):
        monkeypatch.setattr(Answerer, "answer", fail)
    elif reward.card.files:
        monkeypatch.setattr(Features, "of", fail)
    else:
        monkeypatch.setattr(type(reward), "measure", fail)
    result = score_batch({"it": reward}, images, prompts).scores["it"]
    assert [score.value for score in result] == [None] * 8
    assert all("out of memory" in score.reason for score in result)
