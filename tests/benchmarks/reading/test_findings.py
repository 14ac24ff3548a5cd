"""Findings about folders whose scores and pictures were made by hand."""

import hashlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.record import read_record, write_record
from benchmarks.harness.store import ScoreStore, read_rows
from benchmarks.reading.findings import (
    BAD,
    FINE,
    LOOK,
    UNKNOWN,
    Finding,
    examine,
    judge_figure,
    judge_over_optimisation,
    judge_overlap,
)
from benchmarks.reading.stats import Difference
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.prompt import Prompt
from rewards.prompt_record import fingerprint, write_training_prompts

MANY = Suite("many", tuple(Prompt(f"prompt {number}") for number in range(30)), "by hand")


def scores(shift=0.0, seed=0):
    """30 prompts x 2 seeds around 0, with a little noise of their own."""
    noise = np.random.default_rng(seed).normal(scale=0.02, size=60)
    return {(n // 2, n % 2): float(n % 7 / 10 + shift + noise[n]) for n in range(60)}


def line(reward, domain, verdict):
    return {"reward": reward, "domain": domain, "verdict": verdict}


@pytest.mark.parametrize(
    ("inside", "outside", "margins", "verdict", "said"),
    [
        ("better", ["worse"], {}, BAD, "taste@1 rose, and other0@1 .not trained on. fell"),
        ("better", ["better", "no difference shown"], {}, FINE, "no loss was shown of other0@1, other1@1"),
        ("better", ["not worse by more than 0.1"], {"other0": 0.1}, FINE, "no loss was shown"),
        ("better", ["no difference shown"], {"other0": 0.1}, LOOK, "beyond its margin is not excluded"),
        ("better", ["no difference shown"], {"other0@1": 0.1}, LOOK, "beyond its margin is not excluded"),
        ("no difference shown", ["worse"], {}, LOOK, "did not rise, and other0@1"),
        ("better", [], {}, UNKNOWN, "no other reward was measured"),
        (None, ["worse"], {}, UNKNOWN, "no reward that it was trained on"),
    ],
)
def test_over_optimisation(inside, outside, margins, verdict, said):
    lines = [line(f"other{n}@1", "out", found) for n, found in enumerate(outside)]
    lines += [line("taste@1", "in", inside)] if inside else []
    found, sentence = judge_over_optimisation("m", lines, margins)
    assert found == verdict
    assert re.search(said, sentence)


def by_title(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.title: finding for finding in findings}


def test_a_reward_driven_up_at_anothers_cost(write_results):
    direction = {"dark": None}
    base = {"taste@1": scores(), "beauty@1": scores(), "dark@1": scores()}
    run = {"taste@1": scores(0.5, 1), "beauty@1": scores(-0.5, 2), "dark@1": scores(-0.5, 3)}
    a = write_results("a", base, of=MANY, direction=direction)
    b = write_results("b", run, of=MANY, direction=direction, trained_on=["taste@1"])
    found = examine([a, b])[0]
    assert (found.title, found.verdict) == ("Over-optimisation", BAD)
    assert found.sentence == "b: taste@1 rose, and beauty@1 (not trained on) fell."
    assert [(row[1], row[2], row[4]) for row in found.rows] == [
        ("taste@1", "in", "better"),
        ("beauty@1", "out", "worse"),
    ]
    assert examine([b], base=a)[0] == found
    assert examine([a, b], margins={"beauty": 1.0})[0].verdict == FINE


def test_folders_that_cannot_be_compared_are_said_and_not_raised(write_results):
    a = write_results("a", {"taste@1": scores()}, of=MANY)
    b = write_results("b", {"taste@2": scores()}, of=MANY, trained_on=["taste@2"])
    findings = by_title(examine([a, b]))
    assert findings["Over-optimisation"].verdict == UNKNOWN
    assert "cannot be compared" in findings["Over-optimisation"].sentence
    rulers = findings["Rewards: versions and engines"]
    assert rulers.verdict == BAD
    assert "taste as another version" in rulers.sentence


def test_other_engines_are_found_and_equal_ones_are_fine(write_results):
    a = write_results("a", {"taste@1": scores()}, of=MANY)
    b = write_results("b", {"taste@1": scores()}, of=MANY, engine="brass 2.0")
    c = write_results("c", {"taste@1": scores()}, of=MANY)
    other, alike = (by_title(examine([a, run]))["Rewards: versions and engines"] for run in (b, c))
    assert (other.verdict, alike.verdict) == (BAD, FINE)
    assert "taste@1 by other engines" in other.sentence
    assert other.rows == (("taste@1", "a", "1", "brass 1.0", "none"), ("taste@1", "b", "1", "brass 2.0", "none"))


def test_failed_and_unfinished(write_results):
    first = {**scores(), (0, 0): None}
    many = {**scores(), **{(number, 0): None for number in range(4)}}
    for name, cells, finished, verdict in (
        ("a", first, True, LOOK),
        ("b", many, True, BAD),
        ("c", scores(), False, LOOK),
    ):
        folder = write_results(name, {"taste@1": cells}, of=MANY)
        write_record(folder, {**read_record(folder), "finished": finished})
        found = by_title(examine([folder]))["Images without a score"]
        assert found.verdict == verdict, name
    folder = write_results("d", {"taste@1": scores()}, of=MANY)
    write_record(folder, {**read_record(folder), "finished": True})
    assert by_title(examine([folder]))["Images without a score"].verdict == FINE


def test_overlap_by_hand():
    training = {fingerprint(text) for text in ("A cat.", "a dog")}
    texts = [f"prompt {number}" for number in range(99)]
    assert judge_overlap("m", texts, training)[0] == FINE
    verdict, sentence, shared = judge_overlap("m", [*texts, "a cat"], training)
    assert (verdict, shared) == (LOOK, ["a cat"])
    assert "1 of 100 prompts (1.0%)" in sentence
    assert judge_overlap("m", [*texts[:98], "a cat", "a dog"], training)[0] == BAD


@pytest.mark.parametrize("inside_the_run", [True, False])
def test_overlap_is_asked_of_the_run_that_made_the_model(write_results, tmp_path, inside_the_run):
    run = tmp_path / "run"
    (run / "evaluations").mkdir(parents=True)
    write_training_prompts(run, ["Prompt 3", "else"])
    place = "run/evaluations/step-000004" if inside_the_run else "elsewhere"
    model = {"name": "m"} if inside_the_run else {"run": str(run), "step": 4}
    folder = write_results("m", {"taste@1": scores()}, of=MANY, folder=place, trained_on=["taste@1"], model=model)
    base = write_results("base", {"taste@1": scores()}, of=MANY)
    found = by_title(examine([base, folder]))["Training prompts in the suite"]
    assert (found.verdict, found.rows) == (BAD, (("m", "prompt 3"),))
    assert "base: no training of this program made it" in found.sentence
    (run / "prompts.sha256").unlink()
    assert by_title(examine([folder]))["Training prompts in the suite"].verdict == UNKNOWN


@pytest.mark.parametrize(
    ("name", "base", "run", "moved", "verdict", "clause"),
    [
        ("dark", 0.145, 0.019, True, LOOK, "fell from 0.145 to 0.019 (-87%)"),
        ("dark", 0.1, 0.7, True, LOOK, "rose from 0.100 to 0.700 (+600%)"),
        ("dark", 0.1, 0.7, False, FINE, "went from 0.100 to 0.700, no more than chance may do"),
        ("edges", 0.153, 0.152, True, LOOK, "fell from 0.153 to 0.152 (-1%)"),
        ("near_duplicates", 0.0, 0.1, True, LOOK, "rose from 0.000 to 0.100"),
        ("near_duplicates", 0.0, 0.6, True, BAD, "rose from 0.000 to 0.600"),
        ("near_duplicates", 0.9, 0.6, True, LOOK, "fell from 0.900 to 0.600 (-33%)"),
        ("diversity", 0.4, 0.3, True, LOOK, "fell from 0.400 to 0.300 (-25%)"),
        ("diversity", 0.4, 0.1, True, BAD, "fell from 0.400 to 0.100 (-75%)"),
        ("diversity", 0.2, 0.3, True, LOOK, "rose from 0.200 to 0.300 (+50%)"),
    ],
)
def test_figures(name, base, run, moved, verdict, clause):
    found = Difference(base, run, run - base, 0.1, math.nan, math.nan, 0.5, 0.5, 30, "bootstrap", 30)
    assert judge_figure(name, found, moved) == (verdict, clause)


def write_pictures(folder, shade_of):
    """Put an image of one grey at each cell's place and its hash into the scores."""
    rows = []
    for row in read_rows(folder):
        path = folder / row.image
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (shade_of(row),) * 3).save(path)
        rows.append(replace(row, image_sha=hashlib.sha256(path.read_bytes()).hexdigest()))
    ScoreStore(folder).rewrite(rows)


@pytest.mark.parametrize("prompts", [3, 30])
def test_pictures_that_went_dark_are_worth_a_look(write_results, prompts):
    """All of thirty prompts, and all of three, of which no test could show it."""
    suite = replace(MANY, prompts=MANY.prompts[:prompts])
    cells = {(number, seed): 0.5 for number in range(prompts) for seed in range(2)}
    a, b, c = (write_results(name, {"taste@1": cells}, of=suite) for name in "abc")
    for folder, shade in ((a, 200), (b, 5), (c, 200)):
        write_pictures(folder, lambda row, shade=shade: shade)
    dark = by_title(examine([a, b]))["Pictures: share of dark pixels"]
    assert (dark.verdict, dark.sentence) == (LOOK, "b: it rose from 0.000 to 1.000.")
    assert (
        by_title(examine([b, a]))["Pictures: share of dark pixels"].sentence
        == "a: it fell from 1.000 to 0.000 (-100%)."
    )
    assert by_title(examine([a, c]))["Pictures: share of dark pixels"].verdict == FINE


def test_images_that_are_not_there_leave_the_figures_unknown(write_results):
    folder = write_results("a", {"taste@1": scores()}, of=MANY)
    findings = by_title(examine([folder]))
    assert findings["Pictures: share of dark pixels"].verdict == UNKNOWN
    assert findings["Images that could not be looked at"].rows[0][:2] == ("a", "60")
    assert json.dumps([finding.sentence for finding in findings.values()])


def test_nothing_to_look_at():
    with pytest.raises(UsageError, match="no results folder"):
        examine([])
    with pytest.raises(UsageError, match="There is no folder"):
        examine([Path("/absent")])
