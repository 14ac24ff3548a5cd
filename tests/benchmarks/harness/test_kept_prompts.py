"""prompts.jsonl: the suite with its specs beside the scores."""

import os

import pytest

from benchmarks.suites import draw_suite, load_suite
from rewards.errors import UsageError
from rewards.kept_prompts import keep_prompts, read_kept_prompts
from rewards.prompt import Prompt


def test_prompts_come_back_with_their_ids_and_in_their_order(tmp_path):
    prompts = [
        Prompt('a sign that says "É\u2028"', {"text": "É", "boxes": [[1, 2.5]], "of": None}),
        Prompt("  white space at the ends\n"),
        Prompt("lone \r carriage return"),
        Prompt(""),
        *draw_suite("geneval").prompts,
    ]
    keep_prompts(tmp_path, prompts)
    assert read_kept_prompts(tmp_path) == prompts
    assert [one.id for one in read_kept_prompts(tmp_path) or []] == [one.id for one in prompts]


def test_it_is_a_prompt_file_and_so_a_suite_of_its_own(tmp_path):
    suite = draw_suite("geneval")
    keep_prompts(tmp_path, suite.prompts)
    again = load_suite(str(tmp_path / "prompts.jsonl"))
    assert (again.prompts, again.sha256) == (suite.prompts, suite.sha256)


def test_a_folder_of_before_has_none_and_a_damaged_one_is_told(tmp_path):
    assert read_kept_prompts(tmp_path) is None
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a cat"}\n{"text": "a dog"}\n')
    with pytest.raises(UsageError, match=r"prompts\.jsonl, line 2: this line is damaged.*`dgpo eval` again"):
        read_kept_prompts(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a c')
    with pytest.raises(UsageError, match="line 1: not JSON"):
        read_kept_prompts(tmp_path)
    (tmp_path / "prompts.jsonl").unlink()
    os.mkfifo(tmp_path / "prompts.jsonl")
    with pytest.raises(UsageError, match="cannot be read"):
        read_kept_prompts(tmp_path)


def test_a_suite_that_grows_takes_the_place_of_the_smaller_one(tmp_path):
    grown = [Prompt("a cat"), Prompt("a dog"), Prompt("a cow", {"tag": "animals"})]
    keep_prompts(tmp_path, grown[:1])
    keep_prompts(tmp_path, grown)
    assert read_kept_prompts(tmp_path) == grown
