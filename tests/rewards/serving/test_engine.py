import os
import signal

import psutil
import pytest
from PIL import Image

from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from rewards.remote.description import identify, read_served
from rewards.serving.engine import Engine
from rewards.serving.limits import Refusal

IMAGES = [Image.effect_noise((20 + number, 20), 60) for number in range(4)]
PROMPTS = [Prompt("a")] * 4


def test_worker_processes_give_the_same_scores_and_are_replaced():
    specs = parse_rewards(["imagestats.edges", "imagestats.dark"])
    with Engine(specs) as here, Engine(specs, workers=1) as there:
        assert (here.lanes, there.lanes) == (1, 1)
        for spec in specs:
            expected = here.submit(spec.key, IMAGES, PROMPTS).result().scores
            assert there.submit(spec.key, IMAGES, PROMPTS).result().scores == expected
        for child in psutil.Process().children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
        assert there.submit(specs[1].key, IMAGES, PROMPTS).result().scores == expected


def test_a_reward_is_found_by_what_tells_it_from_the_others():
    engine = Engine(parse_rewards(["ocr[weights=v4]", "ocr[detect=false]", "imagestats.edges"]))
    assert engine.find("imagestats.edges") == "imagestats.edges@1"
    assert engine.find("ocr@1[weights=v4]") == "ocr@1[weights=v4]"
    for wanted, status in (
        ("ocr", 409),
        ("ocr@1", 409),
        ("ocr@1[detect=true]", 409),
        ("imagestats.edges@2", 409),
        ("x", 404),
    ):
        with pytest.raises(Refusal) as refusal:
            engine.find(wanted)
        assert refusal.value.status == status


def test_the_first_picture_is_scored_where_the_prompt_allows():
    with Engine(parse_rewards(["imagestats.edges", "ocr"])) as engine:
        assert [engine.warm_up(key) for key in engine.rewards] == ["", ""]


def test_what_is_told_is_read_back_and_identity_is_what_scores_depend_on():
    engine = Engine(parse_rewards(["ocr[weights=v4]"]), version="dgpo 1")
    (told,) = engine.descriptions.values()
    limits = {"images": 1, "request_bytes": 2, "request_pixels": 3, "json_bytes": 4}
    (read,) = read_served({"rewards": [told], "limits": limits}).rewards
    (reward,) = engine.rewards.values()
    assert (read.key, read.options, read.identity) == ("ocr@1[weights=v4]", (("weights", "v4"),), told["identity"])
    assert (read.card.unit, read.card.bounds) == (reward.card.unit, reward.card.bounds)
    facts = told["provenance"]
    assert identify({**told, "provenance": {**facts, "device": "cuda:3"}}) == told["identity"]
    others = [
        identify({**told, "provenance": {**facts, "weights": "other"}}),
        identify({**told, "provenance": {**facts, "engine_version": "other"}}),
        identify({**told, "server_version": "dgpo 2"}),
        identify({**told, "key": "ocr@1"}),
    ]
    assert len({told["identity"], *others}) == 5


@pytest.mark.parametrize("spoil", [{"rewards": []}, {"limits": {}}, {"rewards": [{}]}, {"rewards": None}])
def test_what_is_told_otherwise_is_refused(spoil):
    with pytest.raises(ValueError, match=r"."):
        read_served({"rewards": [], "limits": {}, **spoil})
