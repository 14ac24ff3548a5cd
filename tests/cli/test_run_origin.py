"""A run is drawn from on the base that it was trained on: moved, replaced, gone, or never recorded."""

import json
import shutil

import pytest

from benchmarks.harness.images import Cell
from cli.model import choose_model, load_choice
from rewards.errors import UsageError
from rewards.prompt import Prompt
from tests.dgpo.models.hub_cache import keep


@pytest.fixture
def own_model(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "own")


@pytest.fixture
def run_on_own(run_folder, own_model):
    """The run, whose base is a folder that tests may change."""
    name_base(run_folder, own_model)
    return run_folder


def name_base(run_folder, base):
    config = run_folder / "config.yaml"
    lines = [f"model: {base}" if line.startswith("model:") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines) + "\n")


def replace_a_weight(folder):
    """The same size, another number."""
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 0xFF
    path.write_bytes(bytes(data))


def draw(model):
    return model.draw([Cell(Prompt("a cat"), 0)])[0].tobytes()


def test_base_that_was_replaced_in_its_place_is_refused(run_on_own, own_model, model_folder):
    before = load_choice(choose_model(f"{run_on_own}@1"))
    replace_a_weight(own_model)
    for step in ("@0", "@1", ""):
        with pytest.raises(UsageError, match=r"was trained on other contents of the model .*own .*--base DIR"):
            load_choice(choose_model(f"{run_on_own}{step}"))
    moved = load_choice(choose_model(f"{run_on_own}@1", str(model_folder)))
    assert draw(moved) == draw(before)
    assert moved.facts["base_contents"] == before.facts["base_contents"]


def test_another_base_is_drawn_from_only_if_it_is_given_and_that_is_said(run_on_own, own_model, capsys):
    before = load_choice(choose_model(f"{run_on_own}@1"))
    replace_a_weight(own_model)
    other = load_choice(choose_model(f"{run_on_own}@1", str(own_model)))
    assert "is not the model that" in capsys.readouterr().err
    assert other.facts["weights"] == before.facts["weights"]
    assert other.facts["base_contents"] != before.facts["base_contents"]


def test_hub_model_that_moved_on_is_had_by_its_commit(run_folder, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    then, now = "a" * 40, "b" * 40
    keep(tmp_path / "cache", "o/n", model_folder, then, "v1")
    keep(tmp_path / "cache", "o/n", model_folder, now, "main")
    record = json.loads((run_folder / "run.json").read_text())
    record["contents"]["model"] = then
    (run_folder / "run.json").write_text(json.dumps(record))
    name_base(run_folder, "o/n@v1")
    before = load_choice(choose_model(f"{run_folder}@1"))
    assert (before.facts["base"], before.facts["base_contents"]) == ("o/n@v1", then)
    name_base(run_folder, "o/n")
    with pytest.raises(UsageError, match=rf"{then} then, {now} now.* What it was trained on is --base o/n@{then}\.$"):
        load_choice(choose_model(f"{run_folder}@1"))
    found = load_choice(choose_model(f"{run_folder}@1", f"o/n@{then}"))
    assert (found.facts["base"], found.facts["base_contents"]) == (f"o/n@{then}", then)


@pytest.mark.parametrize("named", ["/gone/away", "gone/away"])
def test_base_that_is_gone_names_the_run_and_what_helps(run_folder, model_folder, named):
    name_base(run_folder, named)
    with pytest.raises(UsageError, match=rf"trained was trained on the model {named}: .*--base DIR"):
        load_choice(choose_model(str(run_folder)))
    assert load_choice(choose_model(str(run_folder), str(model_folder))).facts["base"] == str(model_folder)


def test_run_of_an_earlier_version_goes_on_and_says_what_it_does_not_know(run_on_own, own_model, capsys):
    record = json.loads((run_on_own / "run.json").read_text())
    del record["contents"]
    (run_on_own / "run.json").write_text(json.dumps(record))
    load_choice(choose_model(str(run_on_own)))
    assert capsys.readouterr().err.count("does not record the contents of the model") == 1


def test_base_is_for_runs(model_folder):
    with pytest.raises(UsageError, match=r"--base says where the base model of a run is, and .*noise is no run"):
        choose_model(str(model_folder), str(model_folder))


def test_other_processes_neither_hash_nor_speak(run_on_own, own_model, capsys):
    replace_a_weight(own_model)
    model = load_choice(choose_model(f"{run_on_own}@1"), recorded=False)
    assert (model.facts["base_contents"], model.trained_on) == (None, None)
    assert capsys.readouterr().err == ""
