"""`dgpo suites`: what a model can be measured on."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.prompt_files import DRAWBENCH
from cli.commands import app
from cli.suites import find_suite
from dgpo.models.tiny.words import held_out_words, training_words
from rewards.geneval.prompts import METADATA_SHA256, PROMPTS_SHA256
from rewards.prompt import Prompt
from tests.rewards.hub import Hub, Served

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return lambda *words: CliRunner().invoke(app, ["suites", *words])


def test_signs_asks_for_every_held_out_word_once_and_for_no_other(run):
    suite = find_suite("signs")
    words = [prompt.text.split('"')[1] for prompt in suite.prompts]
    assert words == list(held_out_words())
    assert not set(words) & set(training_words())
    assert suite.default_rewards == ("ocr",)


def test_list_says_which_suites_are_here_and_what_others_need(run):
    result = run("ls")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert f" {len(held_out_words())} " in rows["signs"]
    assert " yes " in rows["signs"]
    assert " no " in rows["drawbench"]
    assert rows["drawbench"].endswith("github.com/NVlabs/DiffusionNFT at 24af5554898d85e93efa492f42b5e9cdf4156e9b")
    assert "drawbench is not on this machine; its first use fetches https://raw.githubusercontent.com/" in result.stderr


def test_list_as_json(run):
    entries = {entry["name"]: entry for entry in json.loads(run("ls", "--json").stdout)}
    assert entries["signs"]["sha256"] == find_suite("signs").sha256
    assert entries["drawbench"]["prompts"] == 200
    assert entries["drawbench"]["missing"]


def test_show_as_text_gives_back_the_prompts(run, prompt_file):
    result = run("show", str(prompt_file))
    assert result.stdout == prompt_file.read_text()
    assert find_suite(str(prompt_file)).sha256 in result.stderr


def test_show_as_jsonl_keeps_what_a_reward_needs_to_know(run, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a cat", "count": 2}\n')
    (line,) = run("show", str(path), "--format", "jsonl").stdout.splitlines()
    fields = json.loads(line)
    assert Prompt(fields.pop("prompt"), fields) == Prompt("a cat", {"count": 2})


def test_geneval_prints_the_bytes_of_the_published_files(run):
    for words, sha256 in [
        (["--format", "jsonl"], METADATA_SHA256),
        (["--format", "jsonl", "--seed", "43", "--per-task", "100"], METADATA_SHA256),
        ([], PROMPTS_SHA256),
    ]:
        result = run("show", "geneval", *words)
        assert hashlib.sha256(result.stdout_bytes).hexdigest() == sha256
        assert METADATA_SHA256 in result.stderr


def test_other_draws_of_geneval_can_be_read_back(run, tmp_path):
    result = run("show", "geneval", "--seed", "5", "--per-task", "2", "--format", "jsonl")
    path = tmp_path / "drawn.jsonl"
    path.write_bytes(result.stdout_bytes)
    assert len(find_suite(str(path)).prompts) == 90
    assert find_suite(str(path)).sha256 in result.stderr
    assert "seed 5, 2 a task" in result.stderr


def test_geneval_prompts_carry_what_the_reward_needs(run):
    (prompt,) = [prompt for prompt in find_suite("geneval").prompts if prompt.text == "a photo of three buses"]
    assert prompt.spec == {
        "tag": "counting",
        "include": [{"class": "bus", "count": 3}],
        "exclude": [{"class": "bus", "count": 4}],
    }
    rows = {line.split()[0]: line for line in run("ls").stdout.splitlines()}
    assert " 553 " in rows["geneval"]
    assert " yes " in rows["geneval"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["show", "signs", "--seed", "1"], 'the prompts of "signs" are not drawn'),
        (["show", "geneval", "--per-task", "0"], "0 were asked for"),
        (["show", "genevla"], 'Did you mean "geneval"?'),
        (["show", "sings"], 'Did you mean "signs"?'),
        (["show", "signs", "--format", "jsno"], 'Did you mean "jsonl"?'),
        (["show", "absent.txt"], "there is no such prompt file"),
    ],
)
def test_wrong_names_end_with_2_and_a_hint(run, words, hint):
    result = run(*words)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_absent_prompts_end_with_3_and_all_that_is_needed_to_get_them(run, tmp_path):
    result = run("show", "drawbench")
    assert result.exit_code == 3
    assert result.stdout == ""
    for fact in (
        "https://raw.githubusercontent.com/NVlabs/DiffusionNFT/",
        "9006b98feabb94b28a2bc0c88de42fd4f31a9ec3c2a19e308a02c5385b7172f0",
        f"put it here as {tmp_path / 'cache'}",
        "--data or DGPO_DATA_DIR",
    ):
        assert fact in result.stderr


def test_show_fetches_once_and_says_so(program, tmp_path):
    """From a server on this machine, in the program as people run it."""
    data = Path(os.environ.get("DGPO_DATA_DIR", SHARED_DATA)) / "drawbench_test.txt"
    if not data.is_file():
        pytest.skip("no published prompt files here; name their folder with DGPO_DATA_DIR")
    hub = Hub()
    hub.files[DRAWBENCH.url.removeprefix("https://raw.githubusercontent.com")] = Served(data.read_bytes(), "")
    settings = {"HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(tmp_path / "cache"), "DGPO_PROMPTS_URL": hub.url,
                "DGPO_DATA_DIR": ""}  # fmt: skip
    first = program("suites", "show", "drawbench", **settings)
    hub.close()
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 200
    assert f"fetching {hub.url}/NVlabs/" in first.stderr
    again = program("suites", "show", "drawbench", **settings)
    assert again.stdout == first.stdout
    assert "fetching" not in again.stderr
    listed = json.loads(program("suites", "ls", "--json", **settings).stdout)
    assert {entry["name"]: entry["missing"] == "" for entry in listed} == {
        "signs": True, "geneval": True, "drawbench": True, "ocr": False, "pickscore": False,
    }  # fmt: skip


def test_rewards_of_a_suite_that_are_not_here_are_listed_before_anything_is_drawn(program, tmp_path):
    data = Path(os.environ.get("DGPO_DATA_DIR", SHARED_DATA))
    if not (data / "drawbench_test.txt").is_file():
        pytest.skip("no published prompt files here; name their folder with DGPO_DATA_DIR")
    result = program("eval", "--suite", "drawbench", "--data", str(data), HF_HUB_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 3
    assert not (tmp_path / "runs").exists()
    for name in ("aesthetic", "deqa", "imagereward", "pickscore", "unifiedreward"):
        assert re.search(
            rf"^{name}@1 +[0-9.]+ GB +[^ ]+, [^ ]+( and [0-9]+ more files?)?$", result.stderr, re.MULTILINE
        )
    assert re.search(r"^deqa@1 +16\.4 GB ", result.stderr, re.MULTILINE)
    assert str(tmp_path / "cache") not in result.stderr
    assert (
        "Get the weights with: dgpo rewards fetch aesthetic deqa imagereward pickscore unifiedreward" in result.stderr
    )
