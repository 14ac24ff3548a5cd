"""What is kept of the canaries; what follows from it in a training is tested in test_faults."""

import json

import pytest
from PIL import Image

from dgpo.parallel import Ranks
from dgpo.run import Run
from dgpo.sections import Watch
from dgpo.supervision.canaries import Canaries
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.prompt import Prompt
from tests.dgpo.training import PROMPTS, Judge, brightness

SPECS = parse_rewards(["imagestats.edges"])
KEY = "imagestats.edges@1"
SPECIAL = (Prompt("three cats", {"tag": "counting", "include": [{"class": "cat", "count": 3}]}), *PROMPTS)


def watch(folder, value=brightness, prompts=PROMPTS, **settings):
    judge = Judge(SPECS, value)
    made = Canaries(Watch(**settings), SPECS, judge.submit, prompts=prompts, run=Run(folder), ranks=Ranks(cpu=True))
    return made, judge


def test_costs_twelve_scores_at_the_start_and_four_later(tmp_path):
    canaries, judge = watch(tmp_path)
    assert canaries.meet(0) == []
    assert len(judge.seen) == 12
    assert canaries.look(25) == []
    assert len(judge.seen) == 16
    assert canaries.agreed == 25
    assert canaries.alive == [KEY]


def test_none_are_asked_for(tmp_path):
    canaries, judge = watch(tmp_path, canaries=0)
    assert canaries.meet(0) == canaries.look(1) == []
    assert judge.seen == []
    assert list(tmp_path.iterdir()) == []


def test_pictures_prompts_and_scores_are_kept_and_used_again(tmp_path):
    """Even by a release that would draw others, of other prompts."""
    watch(tmp_path, prompts=SPECIAL)[0].meet(0)
    kept = json.loads((tmp_path / "canaries" / "canaries.json").read_text())
    assert kept["prompts"][0] == {"prompt": "three cats", **SPECIAL[0].spec}
    shown = []

    def value(image, prompt):
        shown.append((image.tobytes(), prompt))
        return brightness(image, prompt)

    again, _ = watch(tmp_path, value, canaries=2)
    again.meet(7)
    assert [prompt for _, prompt in shown[:4]] == list(SPECIAL[:4])
    with Image.open(tmp_path / "canaries" / "1.png") as picture:
        assert shown[0][0] == picture.convert("RGB").tobytes()
    assert again.first == {KEY: kept["scores"][KEY]}


def test_a_canary_that_failed_at_first_is_kept_when_it_succeeds(tmp_path):
    asleep = lambda image, prompt: None if prompt == PROMPTS[1] else brightness(image, prompt)  # noqa: E731
    canaries, _ = watch(tmp_path, asleep)
    canaries.meet(0)
    assert canaries.first[KEY][1] is None
    assert canaries.look(1) == [
        f'{KEY} could not score canary 2 ({tmp_path}/canaries/2.png, "{PROMPTS[1].text}"): the judge slept'
    ]
    awake, _ = watch(tmp_path)
    awake.meet(1)
    assert json.loads((tmp_path / "canaries" / "canaries.json").read_text())["scores"][KEY] == awake.first[KEY]
    assert None not in awake.first[KEY]


def test_a_reward_stuck_at_one_score_is_forgotten_and_a_living_one_is_not(tmp_path):
    for value, kept in ((lambda image, prompt: 0.5, {}), (brightness, {KEY})):
        canaries, _ = watch(tmp_path, value)
        canaries.meet(0)
        canaries.forget(KEY)
        assert set(json.loads((tmp_path / "canaries" / "canaries.json").read_text())["scores"]) == set(kept)


def test_a_wider_tolerance_lets_noise_pass(tmp_path):
    watch(tmp_path)[0].meet(0)
    noisy = lambda image, prompt: brightness(image, prompt) + 0.04  # noqa: E731
    with pytest.raises(SetupError, match="no longer scores as it did"):
        watch(tmp_path, noisy)[0].meet(0)
    assert watch(tmp_path, noisy, tolerance=0.05)[0].meet(0) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"prompts": [{}]}', '{"prompts": [{"prompt": "a"}], "scores": {}}'])
def test_a_damaged_record_is_a_sentence(tmp_path, text):
    watch(tmp_path)[0].meet(0)
    (tmp_path / "canaries" / "canaries.json").write_text(text)
    with pytest.raises(SetupError, match=r"cannot be read.*Delete it"):
        watch(tmp_path)[0].meet(0)


def test_a_picture_that_would_start_another_program_is_none(tmp_path):
    watch(tmp_path)[0].meet(0)
    (tmp_path / "canaries" / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(SetupError, match=r"cannot be read \(the image is no PNG.*Delete it"):
        watch(tmp_path)[0].meet(0)
