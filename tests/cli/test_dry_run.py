"""`dgpo train --dry-run` says no to what the training would refuse, in the same words, and touches nothing."""

import json
import shutil
import socket

import pytest
from typer.testing import CliRunner

from cli.commands import app
from cli.default_recipe import default_recipe
from dgpo.config import load_config
from dgpo.run import Run
from tests.dgpo.models.hub_cache import keep


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder of its own, with nothing fetched and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("cli.dry_run._plan_memory", lambda *arguments: [])  # seconds each; test_memory_plan.py has them
    monkeypatch.setattr("dgpo.load.load_policy", lambda *arguments, **settings: pytest.fail("a model was loaded"))
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail("the network was asked"))
    return tmp_path


def train(*words):
    return CliRunner().invoke(app, ["train", *words])


def told(done):
    """The last thing said, which is why it ended."""
    return done.stderr.rpartition("dgpo: ")[2]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_other_run(place):
    run = Run(place / "run")
    run.folder.mkdir()
    run.begin(load_config("tiny", {"rewards": ["ocr"], "seed": 5}), {}, fresh=False)
    run.record({"step": 1})


def break_model(place, model_folder):
    folder = shutil.copytree(model_folder, place / "broken")
    (folder / "vae/config.json").write_text("{")


def make_model_of_another_family(place, model_folder):
    index = shutil.copytree(model_folder, place / "other") / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "PixArtSigmaPipeline"}))


WHOLE = ("--model", "whole", "--set", "sampling.height=32", "--set", "sampling.width=64")
BAD = {
    "no reward": (["--set", "rewards=[]"], 2, "Say what to train on"),
    "unknown reward": (["--reward", "orc"], 2, 'Did you mean "ocr"?'),
    "weight of zero": (["--reward", "ocr=0"], 2, "has the weight 0"),
    "reward that only describes": (["--reward", "imagestats"], 2, "nothing can be trained"),
    "absent weights folder": (["--reward", "ocr", "--weights", "ocr=/nope"], 3, "/nope"),
    "weights that are not here": (["--reward", "pickscore", "--prompts", "own.txt"], 3, "pickscore"),
    "absent model": (["--reward", "ocr", "--model", "./nothere"], 2, "There is no model folder"),
    "broken model": (["--reward", "ocr", "--model", "broken"], 3, "vae/config.json is not JSON"),
    "impossible setting": (["--reward", "ocr", "--set", "groups=0"], 2, "by --set groups=0"),
    "absent recipe": (["--reward", "ocr", "--recipe", "mine.yaml"], 2, "no recipe file"),
    "guard without evaluations": (
        ["--reward", "ocr", "--stop-when", "ocr<-0.1", "--set", "evaluation.every=0"], 2, "this run has none",
    ),
    "absent prompts": (["--reward", "ocr", "--prompts", "nothere.txt"], 2, "nothere.txt"),
    "prompts the reward cannot judge": (["--reward", "ocr", "--prompts", "plain.txt"], 2, "do not go with"),
    "suite the reward cannot judge": (
        ["--reward", "ocr", "--set", "evaluation.suite=geneval"], 2, "would be evaluated on geneval",
    ),
    "list that may not be fetched": (["--reward", "ocr", *WHOLE], 3, "HF_HUB_OFFLINE is set"),
    "another run": (["--reward", "ocr", "--output", "run"], 2, "seed is 5 there and 0 here"),
    "folder of something else": (["--reward", "ocr", "--output", "full"], 2, "is not empty and holds no run"),
    "folder below a file": (["--reward", "ocr", "--output", "own.txt/run"], 3, "own.txt"),
    "more times than the rollout visits": (
        ["--reward", "ocr", "--set", "dgpo.times=9"], 2, "the rollout visits 8 times of at least dgpo.min_sigma 0.3",
    ),
    "size that the model cannot draw": (["--reward", "ocr", "--set", "sampling.height=36"], 2, "sampling.height is 36"),
    "model that cannot be trained": (["--reward", "ocr", "--model", "other"], 2, "cannot be trained; `dgpo models ls`"),
}  # fmt: skip


@pytest.fixture
def filled(place, model_folder):
    write(place / "own.txt", 'a sign that says "CAT"\n')
    write(place / "plain.txt", "a cat\n")
    write(place / "full/notes.txt", "mine")
    (place / "whole").symlink_to(model_folder)
    break_model(place, model_folder)
    make_model_of_another_family(place, model_folder)
    make_other_run(place)
    return place


@pytest.mark.parametrize("kind", BAD)
def test_dry_run_and_training_refuse_the_same_in_the_same_words(filled, kind):
    words, code, sentence = BAD[kind]
    before = sorted(filled.rglob("*"))
    dry = train(*words, "--dry-run")
    assert sorted(filled.rglob("*")) == before
    real = train(*words)
    assert (dry.exit_code, real.exit_code) == (code, code), (dry.stderr, real.stderr)
    assert told(dry) == told(real)
    assert sentence in told(dry)


def test_folder_in_which_a_training_runs_is_refused_by_both(place):
    with Run(place / "run").lock():
        words = ["--reward", "ocr", "--output", "run"]
        dry, real = train(*words, "--dry-run"), train(*words)
    assert (dry.exit_code, real.exit_code) == (2, 2)
    assert told(dry) == told(real)
    assert "Another process is training" in told(dry)


def test_files_that_are_not_here_are_named_and_not_fetched(filled, monkeypatch):
    """Settings, cost and geometry need no prompts."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    done = train("--reward", "ocr", *WHOLE, "--set", "evaluation.suite=ocr", "--set", "evaluation.every=5",
                 "--dry-run")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "group_size:" in done.stdout
    assert "per image" in done.stderr
    for name in ("train", "test"):
        assert (
            f"would fetch https://raw.githubusercontent.com/NVlabs/DiffusionNFT/24af5554898d85e93efa492f42b5e9cdf4156e9b/dataset/ocr/{name}.txt"
            in done.stderr
        )
    assert not (filled / "cache").exists()


@pytest.mark.parametrize("revision", ["", "@refs/pr/1", "@7"])
def test_a_hub_models_revision_stands_in_the_run_folders_name(filled, model_folder, revision):
    """Read from the cache, where only that revision is."""
    keep(filled / "cache", "someone/model", model_folder, "a" * 40, revision[1:] or "main")
    done = train("--reward", "ocr", "--recipe", "tiny", "--model", f"someone/model{revision}", "--prompts", "own.txt",
                 "--set", "sampling.height=32", "--set", "sampling.width=64", "--dry-run")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert f"model: someone/model{revision}\n" in done.stdout
    assert f"would train in {filled}/runs/model{revision.replace('/', '-')}-dgpo-ocr on" in done.stderr


def test_a_revision_goes_with_the_recipe_of_its_model(place):
    for revision in ("", "@v1"):
        name = f"black-forest-labs/FLUX.1-dev{revision}"
        assert default_recipe(name, ["pickscore"]) == "flux-pickscore"


def test_own_list_under_a_published_name_is_told_as_ones_own(filled):
    write(filled / "data/ocr_train.txt", 'a sign that says "MINE"\n')
    done = train("--reward", "ocr", *WHOLE, "--data", "data", "--set", "evaluation.every=0", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert f"1 prompts from your own file {filled}/data/ocr_train.txt" in done.stderr
    assert "was not checked" in done.stderr


@pytest.mark.parametrize("name", ["signs", "geneval"])
def test_suite_goes_before_a_folder_of_its_name(place, name):
    (place / name).mkdir()
    reward = "geneval" if name == "geneval" else "ocr"
    done = train("--reward", reward, "--prompts", name, "--dry-run")
    assert "prompt file" not in done.stderr
    if name == "signs":
        assert done.exit_code == 0, done.stderr
        assert "201 prompts" in done.stderr


def test_dry_run_of_the_same_run_says_yes(place):
    run = Run(place / "run")
    run.folder.mkdir()
    run.begin(load_config("tiny", {"rewards": ["ocr"]}), {}, fresh=False)
    before = (run.folder / "run.json").read_text()
    done = train("--reward", "ocr", "--output", "run", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert (run.folder / "run.json").read_text() == before


def test_a_weight_below_zero_is_said_to_train_against(place):
    done = train("--reward", "ocr=-1", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "ocr@1 has the weight -1, so it is trained against: lower scores are better" in done.stderr
    assert "trained against" not in train("--reward", "ocr=0.5", "--dry-run").stderr
