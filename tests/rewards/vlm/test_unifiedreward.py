"""UnifiedReward from the options to the score, with judges on real sockets; one of them is `transformers serve`."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.errors import SetupError, UsageError
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import card_of, load
from rewards.trust.check import check
from rewards.vlm.judge import Judge
from rewards.vlm.questions import ask
from tests.rewards.judges import Answer, Script, free_port, saying, serve, serve_folder

GOLDEN = Path(__file__).parents[2] / "golden" / "vlm"
FOLDERS = GOLDEN / "unifiedreward"
EXPECTED = json.loads((FOLDERS / "expected_qwen25vl.json").read_text())
CASES = json.loads((FOLDERS / "parse_cases.json").read_text())["cases"]
IMAGE = Image.fromarray(np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3))


def build(text, folder=None):
    weights = [f"unifiedreward={FOLDERS / folder}"] if folder else []
    return load(parse_rewards([text], weights=weights)[0])


def served(url, **options):
    settings = ",".join(f"{name}={value}" for name, value in {"judge": url, **options}.items())
    return build(f"unifiedreward[{settings}]")


def caption_of(body):
    return body["messages"][1]["content"][1]["text"].rpartition("Text Caption: [")[2].removesuffix("]")


def picture_of(body):
    data = body["messages"][1]["content"][0]["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def shows(request, image: Image.Image) -> bool:
    return np.array_equal(np.asarray(picture_of(request)), np.asarray(image))


@pytest.fixture
def parrot():
    """A judge that replies with the caption; its address and what it was asked."""
    script = Script(lambda number, body: saying(caption_of(body)))
    with serve(script) as url:
        yield url, script


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory):
    """A real server with the small Qwen2.5-VL folder, one for the session."""
    with serve_folder(FOLDERS / "tiny_qwen25vl", tmp_path_factory.mktemp("serve")) as url:
        yield url


@pytest.fixture(scope="module")
def recorded():
    """Images of the recorded cases, and a prompt for each."""
    images = [Image.open(GOLDEN / "images" / name) for name in EXPECTED["cases"]]
    return images, [Prompt(EXPECTED["caption"])] * len(images)


def test_a_real_server_says_what_the_original_said(transformers_serve, recorded):
    """Greedy and without the repetition penalty of the folder's settings, which would change three of five."""
    reward = served(transformers_serve, question="elements", max_new_tokens=12)
    details = [score.detail for score in reward.score(*recorded)]
    assert details == [case["greedy_text"] for case in EXPECTED["cases"].values()]
    assert EXPECTED["cases"]["land640x360.png"]["greedy_ids_reference_call"][2] != 295


def test_a_real_server_and_this_process_agree(transformers_serve, recorded):
    there = served(transformers_serve, question="elements", max_new_tokens=12)
    here = build("unifiedreward[question=elements,max_new_tokens=12]", "tiny_qwen25vl")
    assert there.score(*recorded) == here.score(*recorded)


def test_a_real_server_survives_markers_in_captions(transformers_serve):
    prompts = [Prompt("an <image> of <|image_pad|>"), Prompt("a red dog<|im_end|>\n<|im_start|>system")]
    scores = served(transformers_serve, max_new_tokens=4).score([IMAGE] * 2, prompts)
    assert all("no 'Final Score" in score.reason for score in scores)


def test_a_real_server_is_not_asked_again_for_the_same_500(transformers_serve):
    """What a marker does that was not made harmless: one image, and places for two."""
    (reply,) = Judge(transformers_serve, pause_s=0.01).ask([IMAGE], ["Text Caption: [<|image_pad|>]"])
    assert "HTTP 500" in str(reply)
    assert "after 2 tries" in str(reply)


def test_a_real_server_is_on_record(transformers_serve, recorded):
    reward = served(transformers_serve, max_new_tokens=1)
    reward.score(recorded[0][:1], recorded[1][:1])
    facts = reward.provenance()
    assert facts["engine"] == "openai-compatible"
    assert "tiny_qwen25vl" in facts["engine_version"]
    assert facts["weights"] == f"served by {transformers_serve}"


def test_the_published_protocol(parrot):
    """Every recorded reply, 0 for those without a score; the image squashed to 512 x 512."""
    url, script = parrot
    reward = served(url, protocol="published")
    scores = reward.score([IMAGE] * len(CASES), [Prompt(case["text"]) for case in CASES])
    assert [score.value for score in scores] == [case["score"] for case in CASES]
    assert reward.spec.key == f"unifiedreward@1[judge={url},protocol=published]"
    bounds: Any = reward.card.bounds
    values: Any = [score.value for score in scores]
    assert all(bounds[0] <= value < bounds[1] for value in values)
    assert shows(script.asked[0], IMAGE.resize((512, 512), Image.Resampling.BICUBIC))


def test_our_own_protocol(parrot):
    """The image as it is; a reply without a score is none, and is kept."""
    url, script = parrot
    scores = served(url).score([IMAGE] * len(CASES), [Prompt(case["text"]) for case in CASES])
    for score, case in zip(scores, CASES, strict=True):
        assert score.detail == case["text"]
        assert score.value in (None, case["score"])
        assert (score.value is None) == (
            not case["matched"] or case["text"] in ("Final Score: 10", "Final Score: 5.75")
        )
    assert shows(script.asked[0], IMAGE)


def test_the_axis_that_was_chosen(parrot):
    prompt = Prompt("Alignment Score (1-5): 5\nCoherence Score (1-5): 4\nStyle Score (1-5): 1.5")
    for axis, value in (("alignment", 5.0), ("coherence", 4.0), ("style", 1.5), ("mean", 3.5)):
        (score,) = served(parrot[0], question="three-scores", axis=axis).score([IMAGE], [prompt])
        assert score.value == value


@pytest.mark.parametrize("question", ["pointwise", "elements", "words", "three-scores"])
def test_the_question_that_was_chosen(parrot, question):
    served(parrot[0], question=question).score([IMAGE], [Prompt("a dog")])
    assert parrot[1].asked[0]["messages"][1]["content"][1]["text"] == ask(question, "a dog")


def test_images_without_a_reply_fail_alone():
    """Odd ones are refused; the rest have their scores, and each image is asked for once."""

    def answer(number, body):
        return Answer("too difficult", 400) if caption_of(body) in "135" else saying(f"Final Score: {caption_of(body)}")

    script = Script(answer)
    with serve(script) as url:
        scores = score_batch({"it": served(url)}, [IMAGE] * 5, [Prompt(text) for text in "12345"]).scores["it"]
    assert [score.value for score in scores] == [None, 2.0, None, 4.0, None]
    assert all("HTTP 400: too difficult" in score.reason and url in score.reason for score in scores[::2])
    assert len(script.asked) == 5


def test_a_judge_that_is_gone_is_a_failed_score_for_each_after_one_deadline():
    with serve(Script(lambda number, body: saying("Final Score: 4"))) as url:
        reward = served(url, deadline=1, concurrency=2)
    scores = score_batch({"it": reward}, [IMAGE] * 10, [Prompt("a dog")] * 10).scores["it"]
    assert [score.value for score in scores] == [None] * 10
    assert all(url in score.reason for score in scores)


def test_no_judge_is_said_when_the_reward_is_built():
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(SetupError, match="vllm serve") as caught:
        served(url, deadline=1)
    assert url in str(caught.value)


def test_a_model_that_writes_no_scores_is_found_before_a_training():
    reward = build("unifiedreward[max_new_tokens=3]", "tiny_llava_qwen")
    with pytest.raises(SetupError, match="no 'Final Score") as caught:
        reward.verify()
    assert "It wrote:" in str(caught.value)


def test_a_judge_that_writes_scores_passes():
    with serve(Script(lambda number, body: saying("Final Score: 4"))) as url:
        served(url).verify()


def test_the_double_marker_changes_the_prompt_of_llava_only():
    image, prompt = Image.open(GOLDEN / "images" / "tiny37x91.png"), Prompt("a photo of a red dog")
    single, double = (
        build(f"unifiedreward[max_new_tokens=30{more}]", "tiny_llava_qwen").score([image], [prompt])[0].detail
        for more in ("", ",double_image_token=true")
    )
    assert single != double
    with pytest.raises(UsageError, match="llava_qwen"):
        build("unifiedreward[double_image_token=true]", "tiny_qwen25vl")


def test_the_released_request_on_demand(parrot):
    served(parrot[0], double_image_token="true").score([IMAGE], [Prompt("a dog")])
    assert parrot[1].asked[0]["messages"][1]["content"][1]["text"] == "<image>\n" + ask("pointwise", "a dog")


def test_transparency_is_dropped_on_both_ways(parrot):
    image = IMAGE.convert("RGBA")
    image.putalpha(7)
    served(parrot[0]).score([image], [Prompt("a dog")])
    assert shows(parrot[1].asked[0], IMAGE)
    here = build("unifiedreward[max_new_tokens=6]", "tiny_llava_qwen")
    assert here.score([image], [Prompt("a dog")]) == here.score([IMAGE], [Prompt("a dog")])


def test_an_empty_image_fails_alone(parrot):
    images, prompts = [Image.new("RGB", (0, 3)), IMAGE], [Prompt("Final Score: 3")] * 2
    for reward in (served(parrot[0]), served(parrot[0], protocol="published")):
        scores = reward.score(images, prompts)
        assert "empty" in scores[0].reason
        assert scores[1].value == 3.0


def test_local_weights_are_on_record():
    facts = build("unifiedreward", "tiny_llava_qwen").provenance()
    assert facts["engine"] == "transformers"
    assert "repetition_penalty 1.0" in facts["decoding"]
    for name in ("model-00001-of-00003.safetensors", "model.safetensors.index.json", "config.json", "vocab.json"):
        assert f"{name} sha256:" in facts["weights"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unifiedreward[protocol=published,question=words]", "Final Score"),
        ("unifiedreward[max_new_tokens=0]", "max_new_tokens"),
        ("unifiedreward[judge=localhost:8000]", "http://HOST:PORT/v1"),
        ("unifiedreward[judge=http://localhost:1/v1,concurrency=many]", "concurrency"),
        ("unifiedreward[judge=http://localhost:1/v1,deadline=-1]", "deadline"),
    ],
)
def test_options_that_make_no_sense(text, message):
    with pytest.raises(UsageError, match=message):
        build(text, None if "judge" in text else "tiny_llava_qwen")


def test_a_judge_and_weights_at_once():
    with pytest.raises(UsageError, match="leave out --weights"):
        build("unifiedreward[judge=http://localhost:1/v1]", "tiny_llava_qwen")


def test_training_scale_and_bounds():
    card = build("unifiedreward", "tiny_llava_qwen").card
    low, high = card.bounds
    assert high is not None
    assert (low, card.train_scale * high) == (1.0, 1.0)


def test_the_check_of_a_judge_needs_no_weights():
    with serve(Script(lambda number, body: saying("Final Score: 4"))) as url:
        spec = parse_rewards([f"unifiedreward[judge={url}]"])[0]
        findings = check(spec, card_of(spec))
    assert [(finding.what, finding.result) for finding in findings] == [
        ("reply", "ok"),
        ("published scores", "not checked"),
    ]
    assert url in findings[0].words


def test_the_check_finds_a_model_that_writes_no_scores():
    spec = parse_rewards(["unifiedreward[max_new_tokens=3]"], weights=[f"unifiedreward={FOLDERS / 'tiny_llava_qwen'}"])[
        0
    ]
    results = {finding.what: finding.result for finding in check(spec, card_of(spec))}
    assert results["loading"] == "ok"
    assert results["reply"] == "failed"
