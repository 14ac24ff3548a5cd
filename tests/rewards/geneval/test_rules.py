"""The recorded verdicts of the reference programs, and each oddity by hand."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewards.geneval.clauses import read_request
from rewards.geneval.crops import crop_object
from rewards.geneval.detections import Found, keep_objects
from rewards.geneval.objects import OBJECTS
from rewards.geneval.rules import Outcome, evaluate, grade, grade_fixed, judge
from rewards.prompt import Prompt

GOLDEN = Path(__file__).parents[2] / "golden/geneval/eval_logic/cases.json"
RECORDED = json.loads(GOLDEN.read_text(encoding="utf-8"))
CASES = RECORDED["cases"]
PALETTE = RECORDED["palette"]


def paint(image):
    """The pixels of a recorded picture."""
    width, height = image["size"]
    pixels = np.full((height, width, 3), image["bg"], np.uint8)
    for x0, y0, x1, y1, colour in image["rects"]:
        pixels[y0:y1, x0:x1] = colour
    return Image.fromarray(pixels)


def mask_of(detection, size):
    width, height = size
    mask = np.zeros((height, width), bool)
    boxes = [detection["box"]] if detection["mask"] == "box" else detection["mask"]
    for x0, y0, x1, y1 in np.array(boxes).astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


def raw_of(case):
    """The recorded detections as a detector returns them."""
    raw = []
    for name in OBJECTS:
        detections = case["detections"].get(name, [])
        rows = np.array([[*d["box"], d["score"]] for d in detections], np.float32).reshape(-1, 5)
        masks = None if case["no_segm"] else np.array([mask_of(d, case["image"]["size"]) for d in detections])
        raw.append((rows, masks))
    return raw


def nearest_colours(image, found, name):
    """The classifier of the recorded cases: the colour nearest to the mean of the crop's pixels."""
    means = [np.asarray(crop_object(image, one), np.float64).reshape(-1, 3).mean(0) for one in found]
    return [min(PALETTE, key=lambda colour: ((mean - PALETTE[colour]) ** 2).sum()) for mean in means]


def given(case):
    fields = dict(case["metadata"])
    request = read_request(Prompt(fields.pop("prompt"), fields))
    detected = keep_objects(raw_of(case), request.tag)
    return request, detected, partial(nearest_colours, paint(case["image"]))


def test_no_recorded_case_is_left_out():
    assert len(CASES) == 125
    assert {case["id"] for case in CASES} <= set(range(250))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_kept_objects_are_the_recorded_ones(case):
    _, detected, _ = given(case)
    kept = {name: [[*one.box, one.score] for one in found] for name, found in detected.items()}
    assert kept == case["expected"]["kept"]
    assert list(kept) == sorted(kept, key=OBJECTS.index)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_official_verdict_is_the_recorded_one(case):
    outcome = evaluate(*given(case))
    expected = case["expected"]["official"]
    assert (outcome.passed, outcome.reason) == (expected["correct"], expected["reason"])
    assert [list(seen) for seen in outcome.colours] == expected["colors"]
    assert outcome.score == float(expected["correct"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_training_reward_is_the_recorded_one(case):
    outcome = grade(*given(case))
    expected = case["expected"]["reward"]
    assert (outcome.passed, outcome.reason) == (expected["strict_correct"], expected["reason"])
    assert outcome.score == pytest.approx(expected["score"], abs=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_fixed_rules_agree_with_the_published_ones_on_what_is_right(case):
    request, detected, classify = given(case)
    published, fixed = grade(request, detected, classify), grade_fixed(request, detected, classify)
    assert 0 <= fixed.score <= 1
    assert fixed.passed == (published.passed and evaluate(request, detected, classify).passed)
    assert (fixed.score == 1) == fixed.passed
    aspects = sum(1 + bool(clause.colour) + bool(clause.relation) for clause in request.include)
    assert len(fixed.marks) in range(aspects, aspects + len(request.exclude) + 1)


def request_of(*include, tag="colors", exclude=()):
    return read_request(Prompt("a prompt", {"tag": tag, "include": list(include), "exclude": list(exclude)}))


def dogs(count, x=0.0):
    return [Found((x, 40.0, x + 20, 60.0), 0.9) for _ in range(count)]


def never(found, name):
    raise AssertionError("no colour was asked for")


def always(*colours):
    return lambda found, name: colours[: len(found)]


DOG = {"class": "dog", "count": 1}
CAT = {"class": "cat", "count": 1}
LEFT = {"class": "dog", "count": 1, "position": ["left of", 0]}


def test_surplus_makes_the_published_score_negative_and_the_fixed_one_zero():
    detected = {"dog": dogs(5)}
    assert grade(request_of(DOG), detected, never).score == -3
    assert grade_fixed(request_of(DOG), detected, never).score == 0
    assert evaluate(request_of(DOG), detected, never) == Outcome(True, 1.0, "")


def test_right_counts_in_the_wrong_relation_are_worth_three_quarters_and_two_thirds_when_fixed():
    detected = {"cat": dogs(1), "dog": dogs(1, x=80.0)}
    request = request_of(CAT, LEFT, tag="position")
    assert grade(request, detected, never).marks == (1, 1, 0, 1)
    assert grade_fixed(request, detected, never).marks == (1, 1, 0)
    assert grade(request, {"dog": dogs(1)}, never).marks == (0, 1, 0)


def test_a_wrong_count_hides_colour_and_position_behind_one_zero_and_behind_two_when_fixed():
    request = request_of(CAT, {**LEFT, "color": "red"})
    detected = {"cat": dogs(1), "dog": dogs(2)}
    assert grade(request, detected, never).marks == (1, 0, 0)
    assert grade_fixed(request, detected, never).marks == (1, 0, 0, 0)


def test_a_wrong_colour_leaves_the_position_out_and_gives_zero_when_fixed():
    request = request_of(CAT, {**LEFT, "color": "red"})
    detected = {"cat": dogs(1, x=80.0), "dog": dogs(1)}
    assert grade(request, detected, always("blue")).marks == (1, 1, 0)
    assert grade_fixed(request, detected, always("blue")).marks == (1, 1, 0, 0)
    assert grade(request, detected, always("red")).marks == (1, 1, 1, 1)


def test_the_reason_names_what_was_expected_and_what_was_seen():
    request = request_of({"class": "cup", "count": 2, "color": "red"})
    outcome = evaluate(request, {"cup": dogs(2)}, always("blue", "red"))
    assert outcome.reason == "expected red cup>=2, found 1 red; and 1 red, 1 blue"
    assert outcome.colours == (("blue", "red"),)


def test_several_relations_are_named_in_alphabetical_order():
    request = request_of(CAT, LEFT)
    detected = {"cat": [Found((0, 0, 2, 2), 1)], "dog": [Found((90, 90, 92, 92), 1)]}
    assert evaluate(request, detected, never).reason == "expected dog left of target, found below and right of target"


def test_exclude_counts_officially_and_when_fixed_and_is_ignored_by_the_published_reward():
    request = request_of(DOG, exclude=[{"class": "cat", "count": 1}])
    both = {"dog": dogs(1), "cat": dogs(1)}
    assert evaluate(request, both, never).reason == "expected cat<1, found 1"
    assert (grade(request, both, never).score, grade(request, both, never).passed) == (1, True)
    assert (grade_fixed(request, both, never).score, grade_fixed(request, both, never).passed) == (0.5, False)
    assert grade_fixed(request, {"dog": dogs(1)}, never).score == 1
    assert grade_fixed(request, {}, never).score == 0


def test_surplus_of_what_is_asked_for_is_marked_once_when_fixed():
    request = request_of({"class": "dog", "count": 2}, tag="counting", exclude=[{"class": "dog", "count": 3}])
    assert grade_fixed(request, {"dog": dogs(3)}, never).marks == (0.5,)


def test_a_prompt_that_only_excludes():
    request = request_of(exclude=[{"class": "car", "count": 1}])
    assert (grade(request, {}, never).score, grade_fixed(request, {}, never).score) == (0, 1)
    assert grade_fixed(request, {"car": dogs(1)}, never).score == 0


@pytest.mark.parametrize(
    ("rules", "score", "reason"),
    [("official", 1.0, ""), ("graded", -1.0, "expected dog==1, found 3"), ("fixed", 0.0, "expected dog==1, found 3")],
)
def test_a_verdict_holds_the_official_answer_and_the_strict_one_whatever_the_score(rules, score, reason):
    verdict = judge(request_of(DOG), {"dog": dogs(3)}, never, rules)
    assert (verdict.correct, verdict.strict) == (True, False)
    assert (verdict.score, verdict.reason) == (score, reason)


def test_a_colour_is_asked_for_once():
    asked = []

    def classify(found, name):
        asked.extend(found)
        return ["red"] * len(found)

    objects = dogs(2)
    request = request_of({"class": "dog", "count": 2, "color": "red"})
    assert judge(request, {"dog": objects}, classify).colours == (("red", "red"),)
    assert asked == objects


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="graded, official, fixed"):
        judge(request_of(DOG), {}, never, "strict")
