"""The published prompts byte for byte, and what the drawn ones have in common with them."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from rewards.errors import SetupError, UsageError
from rewards.geneval.clauses import read_request
from rewards.geneval.prompts import (
    METADATA_SHA256,
    OFFICIAL_PROMPTS,
    PROMPTS_SHA256,
    TRAINING_WEIGHTS,
    check_sha256,
    generate,
    official_prompts,
    to_line,
    to_lines,
    to_prompt,
    to_record,
    training_stream,
)
from rewards.prompt import Prompt

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def test_the_published_files_are_drawn_byte_for_byte():
    records = generate()
    content = to_lines(records)
    assert len(content) == 85_209
    assert hashlib.sha256(content).hexdigest() == METADATA_SHA256
    texts = "".join(f"{record['prompt']}\n" for record in records)
    assert hashlib.sha256(texts.encode()).hexdigest() == PROMPTS_SHA256


@pytest.mark.parametrize(
    ("seed", "per_task", "count", "sha256"),
    [
        (1, 20, 176, "d4b8a199a9cfa407c60dbb5492ff920b27fd979aec1d603bf62dbf68692f0dd4"),
        (0, 1, 85, "e5b5933ed23c21e76af51c155a4318aeb829f3d5d1f5723d7d52dc31f6a06230"),
        (43, 250, 1201, "e8f49b8b41b77a5e9b0a375912702adb93807721be5e54b04dedbea8b8d5e036"),
        (7, 500, 2157, "d554cb5d6236e3c66a3144d72f4f9f593893ae26dedda9e079e411fc35ce79f7"),
    ],
)
def test_other_draws_are_those_of_the_published_program_byte_for_byte(seed, per_task, count, sha256):
    """Hashes of evaluation_metadata.jsonl as `create_prompts.py --seed SEED -n SIZE` writes it."""
    records = generate(seed, per_task)
    assert len(records) == count
    assert hashlib.sha256(to_lines(records)).hexdigest() == sha256


def test_the_published_tasks_have_their_sizes():
    tags = Counter(prompt.spec["tag"] for prompt in official_prompts())
    assert list(tags.items()) == [
        ("single_object", 80),
        ("two_object", 99),
        ("counting", 80),
        ("colors", 94),
        ("position", 100),
        ("color_attr", 100),
    ]
    assert len({prompt.id for prompt in official_prompts()}) == OFFICIAL_PROMPTS == 553


def test_the_released_test_list_holds_these_prompts_four_times():
    path = Path(os.environ.get("DGPO_DATA_DIR", SHARED_DATA)) / "geneval_test_metadata.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    lines = Counter(path.read_text(encoding="utf-8").splitlines())
    assert set(lines.values()) == {4}
    assert set(lines) == {to_line(to_record(prompt)) for prompt in official_prompts()}


def test_the_check_refuses_other_content():
    check_sha256(b"", hashlib.sha256(b"").hexdigest())
    with pytest.raises(SetupError, match=r"SHA-256 .* and not 5c48e081.*numpy"):
        check_sha256(to_lines(generate(seed=44)), METADATA_SHA256)


def test_a_prompt_and_its_record_are_the_same():
    record = generate(per_task=1)[81]
    assert list(record) == ["tag", "include", "exclude", "prompt"]
    assert to_line(to_record(to_prompt(record))) == to_line(record)
    assert "prompt" in record


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("per_task", [1, 30, 200])
def test_other_seeds_and_sizes_follow_the_same_rules(seed, per_task):
    records = generate(seed, per_task)
    tags = Counter(record["tag"] for record in records)
    assert tags.pop("single_object") == 80
    assert set(tags) == {"two_object", "counting", "colors", "position", "color_attr"}
    assert max(tags.values()) <= per_task
    assert len({to_line(record) for record in records}) == len(records)
    assert records == generate(seed, per_task)
    assert records != generate(seed + 1, per_task)
    for record in records:
        read_request(to_prompt(record))
        names = [clause["class"] for clause in record["include"]]
        assert len(set(names)) == len(names)
        colours = [clause["color"] for clause in record["include"] if "color" in clause]
        assert len(set(colours)) == len(colours)
        assert not colours or "person" not in names
        if record["tag"] == "counting":
            assert record["include"][0]["count"] in (2, 3, 4)
            assert record["exclude"] == [{**record["include"][0], "count": record["include"][0]["count"] + 1}]
        if record["tag"] == "position":
            target, subject = record["include"]
            assert record["prompt"].index(f" {subject['class']} ") < record["prompt"].rindex(target["class"])


@pytest.mark.parametrize(("values", "hint"), [({"per_task": 0}, "0 were asked"), ({"seed": -1}, "-1 was given")])
def test_impossible_sizes_are_refused(values, hint):
    with pytest.raises(UsageError, match=hint):
        generate(**values)


@pytest.mark.parametrize("excluded", [(), None])
def test_the_training_stream_has_the_published_weights(excluded):
    """Also where test prompts, a third of all counting prompts, are left out."""
    count = 5000
    tags = Counter(prompt.spec["tag"] for prompt in islice(training_stream(1, excluded=excluded), count))
    assert set(tags) == set(TRAINING_WEIGHTS)
    for task, weight in TRAINING_WEIGHTS.items():
        share = weight / 1.7
        assert tags[task] / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


def test_the_training_stream_never_draws_a_test_prompt():
    tests = {prompt.text for prompt in official_prompts()}
    assert tests & {prompt.text for prompt in islice(training_stream(1, excluded=()), 3000)}
    assert not tests & {prompt.text for prompt in islice(training_stream(1), 3000)}


def test_the_training_stream_is_a_function_of_its_seed():
    first = list(islice(training_stream(1), 50))
    assert first == list(islice(training_stream(1), 50))
    assert first != list(islice(training_stream(2), 50))
    assert len(set(first)) > 40


def test_other_weights_and_other_excluded_prompts():
    colours = {"colors": 1.0}
    first = next(training_stream(3, colours, excluded=()))
    assert first.spec["tag"] == "colors"
    assert first not in list(islice(training_stream(3, colours, excluded=[Prompt(first.text)]), 2000))


def test_a_task_without_any_prompt_left_is_said():
    everything = {prompt.text: prompt for prompt in islice(training_stream(0, {"counting": 1.0}, excluded=()), 5000)}
    assert len(everything) == 240
    with pytest.raises(UsageError, match="counting has no prompt left"):
        next(training_stream(1, {"counting": 1.0}, excluded=everything.values()))


@pytest.mark.parametrize("weights", [{}, {"single_object": 1.0}])
def test_weights_of_other_tasks_are_refused(weights):
    with pytest.raises(ValueError, match="training draws from"):
        next(training_stream(0, weights))


def test_the_pure_modules_load_neither_torch_nor_pillow():
    code = (
        "import sys\n"
        "from rewards.geneval import clauses, crops, detections, geometry, objects, prompts, rules\n"
        "prompts.official_prompts()\n"
        "sys.exit(' '.join({'torch', 'PIL', 'transformers', 'cv2', 'pandas'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rules_and_geometry_load_no_numpy():
    code = "import sys\nfrom rewards.geneval import geometry, objects, rules\nsys.exit(int('numpy' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_records_are_plain_json():
    for record in generate():
        assert json.loads(to_line(record)) == record
