"""run.json: whose results a folder holds, and which of them may stand."""

import json
import os

import pytest

from benchmarks.harness.record import (
    amend_record,
    domain_of,
    read_record,
    refuse_other_run,
    rescored_rewards,
    unrecorded_contents,
)
from rewards.errors import UsageError

RECORD = {
    "run": "a", "suite": {"name": "s", "sha256": "0" * 64}, "images": "images", "model": "m", "seeds": [0, 1],
    "rewards": {"taste@1": {"provenance": {"engine": "1"}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("trained_on", "domain"), [(None, "none"), ([], "out"), (["ocr@1"], "in"), (["ocr@1[weights=v4]", "ocr@2"], "out")]
)
def test_domain_is_of_the_very_reward(trained_on, domain):
    assert domain_of("ocr@1", trained_on) == domain


def test_amending_keeps_earlier_seeds_and_rewards():
    new = {**RECORD, "seeds": [1, 4], "rewards": {"depth@1": {}}}
    amended = amend_record(RECORD, new)
    assert amended["seeds"] == [0, 1, 4]
    assert list(amended["rewards"]) == ["taste@1", "depth@1"]


def test_all_differences_are_told_at_once(tmp_path):
    refuse_other_run(tmp_path, RECORD, {**RECORD, "seeds": [5]})
    with pytest.raises(UsageError) as error:
        refuse_other_run(tmp_path, RECORD, {**RECORD, "model": {"name": "m", "lora": "b1"}, "images": "/elsewhere"})
    assert "its folder of images is images, and this run's is /elsewhere" in str(error.value)
    assert 'its model is m, and this run\'s is {"lora": "b1", "name": "m"}' in str(error.value)


MODEL = {"base": "/a/sd3", "weights": "contents:1"}
TRAINED = {"base": "/a/sd3", "run": "/runs/r", "step": 2, "weights": "manifest:1", "base_contents": "contents:1"}


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (MODEL, {**MODEL, "base": "/elsewhere/sd3"}),
        (TRAINED, {**TRAINED, "base": "/elsewhere/sd3", "run": "/copied/r"}),
        ({**MODEL, "weights": "files:1"}, MODEL),
        ({**TRAINED, "base_contents": None}, TRAINED),
    ],
)
def test_a_model_that_has_moved_or_was_never_hashed_is_the_same(tmp_path, there, here):
    refuse_other_run(tmp_path, {**RECORD, "model": there}, {**RECORD, "model": here})


@pytest.mark.parametrize(
    ("there", "here", "told"),
    [
        (
            MODEL,
            {**MODEL, "weights": "contents:2"},
            r"its model had other contents \(contents:1 there, contents:2 here\)",
        ),
        (TRAINED, {**TRAINED, "base_contents": "contents:2"}, "its base model had other contents"),
        (TRAINED, {**TRAINED, "weights": "manifest:2"}, "its model had other contents"),
        ({**MODEL, "weights": None}, {**MODEL, "base": "/b/sd3"}, "its model is .*/a/sd3.* is .*/b/sd3"),
    ],
)
def test_a_model_with_other_contents_is_another(tmp_path, there, here, told):
    with pytest.raises(UsageError, match=told):
        refuse_other_run(tmp_path, {**RECORD, "model": there}, {**RECORD, "model": here})


def test_what_an_older_record_does_not_know_is_named():
    old, new = {**RECORD, "model": {**TRAINED, "base_contents": None}}, {**RECORD, "model": TRAINED}
    assert unrecorded_contents(old, new) == ["base model"]
    assert unrecorded_contents(new, new) == unrecorded_contents(RECORD, RECORD) == []


def test_a_changed_engine_is_noticed():
    new = {**RECORD, "rewards": {"taste@1": {"provenance": {"engine": "2"}}, "depth@1": {"provenance": {}}}}
    assert list(rescored_rewards(RECORD, new)) == ["taste@1"]
    assert rescored_rewards(RECORD, RECORD) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ("[]", "belongs to something else"),
        ('{"kind": "evaluation", "schema": 99}', "newer version of dgpo: it has schema 99, .* reads up to schema 2"),
        ('{"kind": "evaluation", "schema": "2"}', "its schema is '2', which is no version"),
        ('{"kind": "evaluation", "schema": 1}', "run: field required"),
        ('{"schema": 1}', "belongs to something else"),
    ],
)
def test_unreadable_records_are_refused(tmp_path, text, sentence):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        read_record(tmp_path)


def test_a_pipe_is_no_record(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(UsageError, match="not a regular file"):
        read_record(tmp_path)


def test_a_folder_without_a_record(tmp_path):
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        read_record(tmp_path)


def test_the_caller_cannot_overwrite_our_fields(write_results):
    folder = write_results("a", {"taste@1": {(0, 0): 1.0}}, seeds="nonsense", packages={"numpy": "2"})
    record = json.loads((folder / "run.json").read_text())
    assert record["seeds"] == [0]
    assert record["packages"] == {"numpy": "2"}
