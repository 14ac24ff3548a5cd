"""Which prompts a results folder answers, with their specs: from what it keeps, and of older folders from elsewhere."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.reading.findings import find_overlap
from benchmarks.reading.prompts import prompts_of
from benchmarks.reading.results import read_results
from benchmarks.suite import Suite
from benchmarks.suites import draw_suite, load_suite
from rewards.errors import UsageError
from rewards.kept_prompts import keep_prompts
from rewards.prompt import Prompt

CELLS = {(0, 0): 1.0, (1, 0): 2.0}
ANIMALS = (Prompt("a cat", {"category": "animals"}), Prompt("a car"))


def test_a_folder_tells_its_prompts_when_their_file_is_gone(write_results, tmp_path):
    folder = write_results("a", {"taste@1": CELLS}, of=Suite("mine", ANIMALS, str(tmp_path / "gone.jsonl")))
    keep_prompts(folder, ANIMALS)
    (run,) = read_results([folder])
    assert list(run.prompts.items()) == [(prompt.id, prompt) for prompt in ANIMALS]


def test_what_it_keeps_comes_before_what_is_elsewhere(write_results, tmp_path):
    """A prompt file that has changed since is not asked; nor is a suite drawn that only has the name of GenEval."""
    folder = write_results("a", {"taste@1": CELLS}, of=Suite("geneval", ANIMALS, str(tmp_path)))
    keep_prompts(folder, ANIMALS)
    (run,) = read_results([folder])
    assert [prompt.spec for prompt in run.prompts.values()] == [{"category": "animals"}, {}]


def test_the_prompts_of_an_older_folder_are_looked_up_where_they_came_from(write_results, tmp_path):
    source = tmp_path / "mine.jsonl"
    source.write_text('{"prompt": "a cat", "category": "animals"}\n{"prompt": "a car"}\n')
    folder = write_results("a", {"taste@1": CELLS}, of=load_suite(str(source)))
    (run,) = read_results([folder])
    assert list(run.prompts.values()) == list(ANIMALS)
    source.unlink()
    (run,) = read_results([folder])
    assert [(one.text, one.spec) for one in run.prompts.values()] == [("a cat", {}), ("a car", {})]
    assert list(run.prompts) == [prompt.id for prompt in ANIMALS]


def test_genevals_prompts_of_an_older_folder_are_drawn_again(tmp_path):
    suite = draw_suite("geneval")
    rows: Any = [SimpleNamespace(prompt_id=one.id, prompt=one.text) for one in suite.prompts[:3]]
    found = prompts_of(tmp_path, {"suite": {"name": "geneval", "source": suite.source}}, rows)
    assert list(found.values()) == list(suite.prompts[:3])


def test_a_score_of_a_prompt_that_is_not_kept_is_refused(write_results, suite):
    folder = write_results("a", {"taste@1": CELLS})
    keep_prompts(folder, suite.prompts[1:])
    (run,) = read_results([folder])
    with pytest.raises(UsageError, match=rf"a prompt \({suite.prompts[0].id}\) that its prompts\.jsonl does not hold"):
        _ = run.prompts
    with pytest.raises(UsageError):
        find_overlap([run])
