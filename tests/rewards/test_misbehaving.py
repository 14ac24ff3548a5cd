"""What becomes of a reward that does what no reward may: a sentence with its name; neighbours keep their scores."""

import multiprocessing
import os
import re
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.registry import load, provenance_of
from rewards.score import DEADLY
from rewards.scoring.batch import score_batch
from rewards.scoring.isolation import undisturbed
from rewards.scoring.reward_faults import RewardBroken

FILE = Path(__file__).with_name("misbehaving.py")
BLACK, WHITE, GREY = (Image.new("RGB", (8, 8), (level,) * 3) for level in (0, 255, 51))


def specs(how, *others):
    return parse_rewards([f"{FILE}:Odd[how={how}]", *others])


def score_here(how, images, *others):
    wanted = specs(how, *others)
    rewards = {spec.key: load(spec) for spec in wanted}
    scored = score_batch(rewards, images, [Prompt("x")] * len(images)).scores
    return [scored[spec.key] for spec in wanted]


def score_there(how, images, *others, **settings):
    wanted = specs(how, *others)
    with ScoringPool(wanted, workers=1, **settings) as pool:
        scored = pool.submit(images, [Prompt("x")] * len(images)).result().scores
    return [scored[spec.key] for spec in wanted]


def values(scores):
    return [score.value for score in scores]


@pytest.mark.parametrize("how", ["floats", "generator", "array", "tensor", "numbers"])
def test_numbers_are_taken_for_scores(how):
    (scores,) = score_here(how, [BLACK, GREY])
    assert values(scores) == pytest.approx([0.0, 0.2])
    assert all(type(score.value) is float for score in scores)


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("none", "returned None (NoneType) for 2 images"),
        ("text", "returned 'good' (str) for 2 images"),
        ("dict", "(dict) for 2 images"),
        ("few", "returned 1 scores for 2 images"),
        ("many", "returned more scores for 2 images"),
        ("texts", "returned 'good' (str) for an image"),
        ("text score", "returned '0.5' (str) for an image"),
    ],
)
def test_what_is_no_list_of_scores_is_told_with_an_example(how, what):
    with pytest.raises(RewardBroken) as caught:
        score_here(how, [BLACK, GREY])
    told = str(caught.value)
    assert told.startswith(f"The reward odd@1[how={how}] returned ")
    assert what in told
    assert "return [Score(0.5) for image in images]" in told
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("sys.exit", "it called sys.exit(0)"),
        ("assert", "AssertionError: no image is good enough"),
        ("stop", "StopIteration"),
        ("bug", "AttributeError: 'list' object has no attribute 'nothing'"),
    ],
)
def test_an_exception_that_no_image_explains_is_told_with_its_line(how, what):
    with pytest.raises(RewardBroken) as caught:
        score_here(how, [BLACK, GREY])
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"The reward odd@1[how={how}] broke off: {what} (misbehaving.py, line ")
    assert f'  File "{FILE}", line ' in lines[0]
    assert len(lines) <= 6


PLACES = {
    "made": load,
    "prepare_checks": lambda spec: load(spec).prepare_checks([Prompt("x")]),
    "check": lambda spec: load(spec).check(Prompt("x")),
    "verify": lambda spec: load(spec).verify(),
    "provenance": lambda spec: provenance_of(load(spec)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("sys.exit", "it called sys.exit(0)"),
        ("bug", "AttributeError: 'list' object has no attribute 'nothing'"),
        ("mistake", "ValueError: my own mistake"),
        ("a judgement", "ScoringError: too dark"),
    ],
)
def test_an_exception_from_any_method_is_told_with_its_line(place, how, what):
    (spec,) = specs(f"{how},at={place}")
    expected = rf"The reward odd@1\[at={place},how={how}\] broke off: {re.escape(what)}.* \(misbehaving.py, line \d+\)"
    with pytest.raises(RewardBroken, match=expected) as caught:
        PLACES[place](spec)
    assert f'  File "{FILE}", line ' in str(caught.value).splitlines()[1]


@pytest.mark.parametrize("place", PLACES)
def test_a_library_that_any_method_lacks_is_named(place):
    with pytest.raises(SetupError, match="needs a_library_that_nobody_has, which is not installed here"):
        PLACES[place](specs(f"library,at={place}")[0])


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("prepare_checks", "which returns nothing"),
        ("check", "raises UsageError for a prompt that it cannot judge"),
        ("verify", "raises SetupError where it cannot judge any image"),
        ("provenance", 'return {"engine": "mine", "engine_version": "1"}'),
    ],
)
def test_what_any_method_returns_against_the_rule_is_told(place, rule):
    with pytest.raises(RewardBroken) as caught:
        PLACES[place](specs(f"text,at={place}")[0])
    assert f"returned 'good' (str) from `{place}`, " in str(caught.value)
    assert rule in str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_what_any_method_does_to_the_process_ends_with_it(place, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for how in ("chdir", "gradients", "print"):
        PLACES[place](specs(f"{how},at={place}")[0])
    assert Path.cwd() == tmp_path
    assert torch.is_grad_enabled()
    said = capfd.readouterr()
    assert said.out == ""
    assert "hello from the reward" in said.err
    assert "hello from below" in said.err


def test_stdout_comes_back_when_the_last_of_several_threads_is_done(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    begun, end = threading.Event(), threading.Event()

    def linger():
        with undisturbed():
            begun.set()
            end.wait()
            print("beside")

    beside = threading.Thread(target=linger)
    with undisturbed():
        beside.start()
        begun.wait()
        os.chdir("/")
    end.set()
    beside.join()
    print("afterwards")
    assert Path.cwd() == tmp_path
    said = capfd.readouterr()
    assert (said.out, said.err) == ("afterwards\n", "beside\n")


def test_an_error_about_an_image_names_the_line_and_is_the_same_every_time():
    reasons = {score_here("escape", [BLACK])[0][0].reason for _ in range(2)}
    (reason,) = reasons
    assert re.fullmatch(r"ValueError: \\x1b\[31mred <object object> \(misbehaving.py, line \d+\)", reason)
    (scores,) = score_here("mistake", [WHITE, BLACK])
    assert values(scores) == [1.0, None]


def test_a_score_outside_its_cards_bounds_is_refused_and_rounding_is_not():
    assert score_here("beyond", [BLACK])[0][0].reason == "the reward returned 7, and its card says from 0 to 1 (bounds)"
    assert "not a finite number" in score_here("huge", [BLACK])[0][0].reason
    assert values(score_here("nearly", [BLACK])[0]) == [1.0 + 1e-7]


def test_a_reward_that_paints_on_its_images_paints_on_its_own():
    image = BLACK.copy()
    image.putpixel((4, 4), (255, 255, 255))
    expected = score_here("well", [image], "imagestats.dark")[1]
    assert score_here("paint", [image], "imagestats.dark")[1] == expected
    assert image.getpixel((4, 4)) == (255, 255, 255)


def test_what_it_does_to_the_process_ends_with_the_batch(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for how in ("chdir", "gradients", "print"):
        assert values(score_here(how, [BLACK])[0]) == [0.0]
    assert Path.cwd() == tmp_path
    assert torch.is_grad_enabled()
    said = capfd.readouterr()
    assert said.out == ""
    assert "hello from the reward" in said.err
    assert "hello from below" in said.err


def test_what_a_worker_prints_is_no_part_of_the_answer(capfd):
    assert values(score_there("print", [BLACK])[0]) == [0.0]
    said = capfd.readouterr()
    assert said.out == ""
    assert "hello from the reward" in said.err
    assert "hello from below" in said.err


@pytest.mark.parametrize("how", ["sys.exit", "interrupt", "bug", "none"])
def test_a_workers_error_reaches_whoever_waits_and_the_worker_goes_on(how):
    with ScoringPool(specs(how), workers=1) as pool:
        with pytest.raises(SetupError, match=r"The reward odd@1\[how="):
            pool.submit([BLACK], [Prompt("x")]).result()
        assert values(pool.submit([WHITE], [Prompt("x")]).result().scores[specs(how)[0].key]) == [1.0]


@pytest.mark.parametrize("how", ["exit", "segfault", "fork and die"])
def test_an_image_that_kills_the_process_fails_alone(how):
    """And for the guilty reward alone."""
    images = [WHITE, GREY, BLACK, GREY, WHITE]
    odd, dark = score_there(how, images, "imagestats.dark")
    assert values(odd) == pytest.approx([1.0, 0.2, None, 0.2, 1.0])
    assert odd[2].reason.startswith(DEADLY)
    assert values(dark) == values(score_here("well", images, "imagestats.dark")[1])


def test_a_reward_that_always_kills_is_given_up():
    (odd,) = score_there("abort", [BLACK] * 8)
    assert values(odd) == [None] * 8
    assert odd[-1].reason.startswith("the scoring process died 11 times on this batch")


def test_a_fork_ends_where_it_began():
    assert values(score_there("fork", [BLACK, BLACK])[0]) == [0.0, 0.0]


def test_a_reward_that_hangs_is_ended_at_the_deadline(monkeypatch):
    """Its images fail, other rewards' do not, and what follows is scored."""
    monkeypatch.setattr("rewards.scoring.worker.LOADING_S", 20.0)
    wanted = specs("hang", "imagestats.dark")
    with ScoringPool(wanted, workers=1, deadline_s=0.5) as pool:
        white = pool.submit([WHITE], [Prompt("x")]).result()
        hung = pool.submit([WHITE, BLACK], [Prompt("x")] * 2).result()
        again = pool.submit([WHITE], [Prompt("x")]).result()
    odd, dark = (hung.scores[spec.key] for spec in wanted)
    assert [score.reason for score in odd] == [
        "no scores within 0.5 s (reward_seconds), so the scoring process was ended"
    ] * 2
    assert values(dark) == [0.0, 1.0]
    assert again.scores == white.scores


@pytest.mark.parametrize(("place", "ask"), [("check", "find_problems"), ("verify", "verify"), ("provenance", "facts")])
def test_a_question_that_kills_or_hangs_names_the_reward_and_others_are_asked_on(place, ask, monkeypatch):
    monkeypatch.setattr("rewards.scoring.lane.LOADING_S", 0.5)
    what = [[Prompt("x")]] if ask == "find_problems" else []
    for how, sentence in (("exit", "died .*more memory"), ("hang", "did not answer within 1 s")):
        wanted = parse_rewards([f"{FILE}:Odd[at={place},how={how}]", "imagestats.dark"])
        with ScoringPool(wanted, workers=1, deadline_s=0.5) as pool:
            with pytest.raises(SetupError, match=rf"asked about odd@1\[at={place},how={how}\] .*{sentence}"):
                getattr(pool, ask)(*what)
            getattr(pool.limited_to(wanted[1:]), ask)(*what)


@pytest.mark.parametrize("how", ["hang", "spin"])
def test_leaving_by_an_error_does_not_wait_for_it(how):
    def interrupt():
        with ScoringPool(specs(how), workers=2) as pool:
            pool.submit([WHITE], [Prompt("x")]).result()
            for _ in range(3):
                pool.submit([BLACK], [Prompt("x")])
            time.sleep(0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scoring")]
