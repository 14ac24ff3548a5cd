"""Prompts that a model has seen, known again by fingerprints."""

import json

from benchmarks.reading.overlap import read_training_prompts, seen_in_training
from rewards.prompt_record import PROMPTS_FILE, fingerprint, normalise, write_training_prompts


def test_spelling_that_does_not_count():
    same = ["A red car.", "  a RED\tcar ", "\uff41 red car"]
    assert {normalise(text) for text in same} == {"a red car"}
    assert len({fingerprint(text) for text in same}) == 1
    assert fingerprint("a red cart") != fingerprint("a red car")


def test_a_run_leaves_fingerprints_and_no_prompts(tmp_path):
    write_training_prompts(tmp_path, ["a cat", "A cat.", "a dog"])
    text = (tmp_path / PROMPTS_FILE).read_text()
    assert len(text.splitlines()) == 2
    assert "cat" not in text
    training = read_training_prompts(tmp_path)
    assert training is not None
    assert seen_in_training(["A DOG", "a bird", "a cat", "A DOG"], training) == ["A DOG", "a cat"]


def test_what_an_earlier_part_was_trained_on_stays(tmp_path):
    write_training_prompts(tmp_path, ["a cat"])
    write_training_prompts(tmp_path, ["a dog"])
    assert read_training_prompts(tmp_path) == {fingerprint("a cat"), fingerprint("a dog")}


def test_a_run_from_before_is_asked_for_its_prompt_file(tmp_path):
    prompts = tmp_path / "mine.txt"
    prompts.write_text("a cat\na dog\n")
    (tmp_path / "run.json").write_text(json.dumps({"prompts": {"source": str(prompts)}}))
    assert read_training_prompts(tmp_path) == {fingerprint("a cat"), fingerprint("a dog")}
    prompts.unlink()
    assert read_training_prompts(tmp_path) is None
    assert read_training_prompts(tmp_path / "absent") is None
