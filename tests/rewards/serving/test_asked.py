import json

import pytest

from rewards.prompt import Prompt
from rewards.serving.asked import match_images, read_asked
from rewards.serving.limits import Limits, Refusal

SPEC = {"include": [{"class": "cup", "count": 2}], "nested": {"a": [1, 2.5, None, True, "é"]}}


def test_prompts_keep_their_spec_and_so_their_id():
    text = json.dumps({"reward": "ocr", "prompts": [{"text": "ä", "spec": SPEC}, {"text": ""}]}).encode()
    name, prompts = read_asked(text, Limits())
    assert name == "ocr"
    assert prompts == [Prompt("ä", SPEC), Prompt("")]
    assert prompts[0].id == Prompt("ä", SPEC).id


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"", 400),
        (b"\x80\x04\x95", 400),
        (b"[" * 100_000, 400),
        (b'{"reward": "a", "prompts": [{"text": "a", "spec": {"x": NaN}}]}', 400),
        (b'{"reward": "a", "prompts": [{"text": "a", "spec": {"x": ' + b"9" * 9999 + b"}}]}", 400),
        (b"[]", 422),
        (b'{"reward": 1, "prompts": []}', 422),
        (b'{"reward": "a"}', 422),
        (b'{"reward": "a", "prompts": [], "more": 1}', 422),
        (b'{"reward": "a", "prompts": ["a"]}', 422),
        (b'{"reward": "a", "prompts": [{"text": "a", "spec": {"prompt": "b"}}]}', 422),
        (b'{"reward": "a", "prompts": [{"text": "a", "spec": {"x": 1e999}}]}', 422),
        (b'{"reward": "a", "prompts": [{"text": "\\ud800"}]}', 422),
        (b'{"reward": "a", "prompts": [{"text": "abcdef"}]}', 413),
    ],
)
def test_what_is_no_request_is_refused(text, status):
    with pytest.raises(Refusal) as refusal:
        read_asked(text, Limits(prompt_characters=5))
    assert refusal.value.status == status
    assert len(refusal.value.sentence) < 500


@pytest.mark.parametrize(("prompts", "images"), [(0, 0), (1, 0), (1, 2), (2, 1)])
def test_there_is_one_prompt_an_image(prompts, images):
    with pytest.raises(Refusal, match="one prompt an image"):
        match_images([Prompt("a")] * prompts, [b""] * images)
