"""What a run trains on when nothing was named, and when something was."""

import hashlib
import json

import pytest

from benchmarks.suites import SUITES, find_own_suite
from cli import training_prompts
from cli.training_prompts import find_training_prompts
from dgpo.config import load_config
from dgpo.models.tiny.words import held_out_words, sign_prompts, training_words
from dgpo.reward_choice import choose_rewards
from dgpo.schedule import build_schedule
from rewards.errors import SetupError, UsageError
from rewards.geneval.clauses import read_request
from rewards.geneval.prompts import official_prompts


def find(config, data):
    config = config if data is None else config.model_copy(update={"data": str(data)})
    return find_training_prompts(config, choose_rewards(config))


@pytest.fixture(autouse=True)
def short_stream(monkeypatch):
    monkeypatch.setattr(training_prompts, "STREAMED", 400)
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)


@pytest.mark.parametrize("reward", ["geneval", "geneval-official", "geneval[rules=fixed]"])
@pytest.mark.parametrize("recipe", ["tiny", "geneval"])
def test_geneval_trains_on_its_stream_whatever_the_model(recipe, reward):
    found = find(load_config(recipe, {"rewards": [reward]}), None)
    assert len(found.prompts) == 400
    assert not {prompt.text for prompt in found.prompts} & {prompt.text for prompt in official_prompts()}
    assert {read_request(prompt).tag for prompt in found.prompts} == {
        "position", "counting", "color_attr", "colors", "two_object",
    }  # fmt: skip


def test_the_stream_is_the_runs_seed_and_said_so():
    zero, again, one = (find(load_config("geneval", {"seed": seed}), None) for seed in (0, 0, 1))
    assert zero.prompts == again.prompts != one.prompts
    assert json.loads(json.dumps(dict(one.facts))) == {
        "source": "GenEval's training stream (rewards.geneval.prompts)",
        "count": 400,
        "seed": 1,
        "distinct": len({prompt.id for prompt in one.prompts}),
        "without": "the 553 test prompts",
    }
    assert one.describe().startswith("400 prompts from GenEval's training stream (rewards.geneval.prompts) (seed 1, ")
    assert one.describe().endswith(f"for instance: {one.prompts[0].text}")


def test_grids_show_a_test_prompt_of_each_task():
    samples = find(load_config("geneval"), None).samples
    assert [prompt.spec["tag"] for prompt in samples] == [
        "single_object", "two_object", "counting", "colors", "position", "color_attr",
    ]  # fmt: skip
    assert samples[0] == official_prompts()[0]


def test_a_mix_with_geneval_has_its_prompts_too():
    config = load_config("tiny", {"rewards": ["imagestats.edges=0.2", "geneval=0.8"]})
    assert "stream" in find(config, None).facts["source"]
    assert find_own_suite(["ocr", "geneval"]) is SUITES["geneval"]
    assert find_own_suite(["ocr", "pickscore"]) is None


def test_the_embedded_model_spells_training_words_and_shows_held_out_ones():
    found = find(load_config("tiny"), None)
    assert [prompt.text for prompt in found.prompts] == list(sign_prompts(training_words()))
    assert [prompt.text for prompt in found.samples] == list(sign_prompts(held_out_words())[:6])
    assert found.facts["count"] == len(found.prompts)


@pytest.mark.parametrize("recipe", ["tiny", "geneval"])
def test_named_prompts_go_first(recipe, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("".join(f"prompt {number}\n" for number in range(8)))
    found = find(load_config(recipe, {"prompts": str(path)}), None)
    assert [prompt.text for prompt in found.samples] == [f"prompt {number}" for number in range(6)]
    assert found.facts == {"source": str(path), "count": 8}
    assert len(find(load_config(recipe, {"prompts": "geneval"}), None).prompts) == 553


def test_the_rewards_published_list_is_found_in_the_data_folder(tmp_path, monkeypatch):
    config = load_config("ocr")
    path = tmp_path / "dataset/ocr/train.txt"
    path.parent.mkdir(parents=True)
    path.write_text('a sign that says "A"\n')
    monkeypatch.setenv("DGPO_DATA_DIR", str(tmp_path))
    found = find(config, None)
    assert [prompt.text for prompt in found.prompts] == ['a sign that says "A"']
    assert found.facts == {
        "source": f"your own file {path} (that it is dataset/ocr/train.txt of github.com/NVlabs/DiffusionNFT at "
        "24af5554898d85e93efa492f42b5e9cdf4156e9b was not checked: nobody states what that holds)",
        "count": 1,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_another_file_is_not_the_published_list(tmp_path):
    (tmp_path / "pickscore_train.txt").write_text("a cat\n")
    with pytest.raises(UsageError, match="is not the published file: its SHA-256"):
        find(load_config("pickscore"), tmp_path)


def test_an_absent_list_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match=r"ocr_train\.txt is not in the cache.*dataset/ocr/train\.txt"):
        find(load_config("ocr"), None)


def test_a_reward_without_a_list_asks_for_prompts():
    with pytest.raises(UsageError, match=r"--prompts FILE or SUITE.*geneval, ocr, pickscore"):
        find(load_config("ocr", {"rewards": ["aesthetic"]}), None)


def test_the_first_reward_of_a_mix_that_has_a_list_gives_it(tmp_path):
    (tmp_path / "ocr_train.txt").write_text('a sign that says "A"\n')
    found = find(load_config("ocr", {"rewards": ["aesthetic=0.2", "ocr=0.8"]}), tmp_path)
    assert found.facts["count"] == 1


def test_the_recipes_bound_lets_in_the_first_five_times_of_its_sampler():
    config = load_config("geneval")
    schedule = build_schedule(
        config.sampling.sampler, {"num_train_timesteps": 1000, "shift": 3.0}, config.sampling.steps
    )
    let_in = [time for time in schedule.times if time >= config.learning.min_sigma]
    assert [round(1000 * time) for time in let_in] == [999, 963, 922, 874, 817]
