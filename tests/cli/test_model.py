"""`--model` finds what it names, says which checkpoint it takes, and records what tells models apart."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from benchmarks.harness.images import Cell
from cli.commands import app
from cli.model import choose_model, load_choice, pick_device
from dgpo.checkpoint import Progress, save_checkpoint, take_snapshot
from dgpo.load import load_trained
from dgpo.precision import Wanted, examine, settle
from rewards.errors import SetupError, UsageError
from rewards.prompt import Prompt
from tests.dgpo.models.hub_cache import keep
from tests.dgpo.unet import save_unet

SIZES = {"height": 32, "width": 64, "steps": 2, "guidance": 1.0, "sampler": "euler", "text_length": 0}
CELLS = [Cell(Prompt('a red sign that says "cat"'), 0), Cell(Prompt('a red sign that says "cat"'), 1)]


@pytest.fixture(scope="session")
def unet_folder(tmp_path_factory):
    return save_unet(tmp_path_factory.mktemp("models") / "unet")


def pixels(model) -> np.ndarray:
    return np.stack([np.asarray(image) for image in model.draw(CELLS)])


def damage(run_folder, step):
    path = run_folder / "checkpoints" / f"step-{step:06d}" / "pytorch_lora_weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_no_model_means_the_embedded_one_and_says_so(capsys):
    assert choose_model(None).text == "tiny"
    assert "embedded model (tiny)" in capsys.readouterr().err
    assert choose_model("tiny").name == "tiny"
    assert capsys.readouterr().err == ""


def test_folder_and_hub_id_are_named_by_their_last_part(model_folder):
    assert choose_model(str(model_folder)).name == "noise"
    assert choose_model("someone/some-model").name == "some-model"
    assert choose_model("someone/some-model@refs/pr/1").name == "some-model@refs-pr-1"


@pytest.mark.parametrize(
    ("text", "hint"), [("tinny", 'Did you mean "tiny"?'), ("./absent", "no model folder"), ("a/b/c", "no model folder")]
)
def test_unknown_model_is_refused_with_a_sentence(text, hint):
    with pytest.raises(UsageError, match="There is no model") as error:
        choose_model(text)
    assert hint in str(error.value)


def test_the_embedded_model_goes_before_a_folder_of_its_name_and_says_so(tmp_path, monkeypatch, model_folder, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(model_folder)
    assert choose_model("tiny").name == "tiny"
    assert "would be ./tiny" in capsys.readouterr().err
    assert choose_model("./tiny").text == "./tiny"
    assert choose_model("./tiny").name == "noise"


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no model"):
        choose_model(str(tmp_path))
    with pytest.raises(UsageError, match="is no run folder"):
        choose_model(f"{tmp_path}@3")


def test_a_checkpoints_own_folder_is_refused_with_its_name(run_folder):
    checkpoint = run_folder / "checkpoints" / "step-000002"
    with pytest.raises(UsageError, match=re.escape(f"named by its run and its step: {run_folder}@2.")):
        choose_model(str(checkpoint))
    copy = checkpoint.rename(checkpoint.with_name("step-000002.bak"))
    with pytest.raises(UsageError, match=r"\(model_index.json\)\.$"):
        choose_model(str(copy))


def test_a_number_behind_the_at_is_a_step_where_there_is_a_run_and_else_a_revision(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose_model("someone/run@2").run is None
    assert choose_model("someone/run@2").text == "someone/run@2"
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone/run").symlink_to(run_folder)
    assert choose_model("someone/run@2").step == 2
    with pytest.raises(UsageError, match="no checkpoint of step 7"):
        choose_model("someone/run@7")
    with pytest.raises(
        UsageError, match=r"someone/run is a run, and someone/run@STEP .* a number; got someone/run@last"
    ):
        choose_model("someone/run@last")


def test_a_revision_of_the_hub_is_drawn_from_and_recorded(model_folder, tmp_path, monkeypatch):
    """By the cache alone; `main` and the revision are two models there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    now, then = "a" * 40, "b" * 40
    weights = keep(tmp_path, "o/n", model_folder, now, "main") / "transformer/diffusion_pytorch_model.safetensors"
    save_file({name: 1.5 * values for name, values in load_file(weights).items()}, weights)
    keep(tmp_path, "o/n", model_folder, then, "v1")
    models = {name: load_choice(choose_model(name), SIZES) for name in ("o/n", "o/n@v1", f"o/n@{then}")}
    assert [model.name for model in models.values()] == ["n", "n@v1", "n@bbbbbbbb"]
    assert [model.facts for model in models.values()] == [
        {"base": name, "weights": commit} for name, commit in zip(models, (now, then, then), strict=True)
    ]
    of_main, of_tag, of_commit = map(pixels, models.values())
    assert np.array_equal(of_tag, pixels(load_choice(choose_model(str(model_folder)), SIZES)))
    assert np.array_equal(of_tag, of_commit)
    assert not np.array_equal(of_tag, of_main)
    with pytest.raises(SetupError, match=r"The model o/n@v2 could not be loaded: it is not in the cache"):
        load_choice(choose_model("o/n@v2"))


def test_base_model_is_drawn_from_with_the_given_sampler(model_folder):
    model = load_choice(choose_model(str(model_folder)), SIZES)
    assert pixels(model).shape == (2, 32, 64, 3)
    assert model.sampler["steps"] == 2
    assert model.trained_on is None
    assert model.facts["base"] == str(model_folder)
    assert model.facts["weights"].startswith("contents:")


def test_model_of_another_family_is_drawn_from_by_its_own_pipeline(unet_folder, capsys):
    sizes = {"height": 32, "width": 64, "steps": 2}
    model = load_choice(choose_model(str(unet_folder)), sizes)
    assert pixels(model).shape == (2, 32, 64, 3)
    assert (model.sampler["pipeline"], model.sampler["steps"]) == ("StableDiffusionPipeline", 2)
    assert model.trained_on is None
    assert model.facts["weights"].startswith("contents:")
    with pytest.raises(UsageError, match=r'no setting "sampling\.text_length"'):
        load_choice(choose_model(str(unet_folder)), {"text_length": 1})


def test_whole_evaluation_of_another_family(called, unet_folder, prompt_file, tmp_path):
    """Drawn, written as PNG, scored, and resumed; another sampler in the same folder is refused."""
    words = ["eval", "--suite", str(prompt_file), "--model", str(unet_folder), "--reward", "imagestats", "--seeds", "2",
             "--set", "sampling.height=32", "--set", "sampling.width=64", "--output", "results"]  # fmt: skip
    result = called(*words, "--set", "sampling.steps=2")
    assert result.returncode == 0, result.stderr
    images = sorted((tmp_path / "results" / "images").glob("*.png"))
    assert len(images) == 6
    sampler = json.loads((tmp_path / "results" / "run.json").read_text())["sampler"]
    assert (sampler["scheduler"], sampler["guidance"]) == ("DDIMScheduler", 7.5)
    before = [np.asarray(Image.open(image), int) for image in images]
    images[1].unlink()
    assert called(*words, "--set", "sampling.steps=2").returncode == 0
    after = [np.asarray(Image.open(image), int) for image in images]
    assert max(np.abs(one - other).max() for one, other in zip(before, after, strict=True)) <= 1
    other = called(*words, "--set", "sampling.steps=3")
    assert other.returncode == 2
    assert "another run" in other.stderr


@pytest.mark.parametrize(
    ("change", "hint"), [({"stepps": 3}, '"sampling.steps"'), ({"guidance": 0.5}, "sampling.guidance")]
)
def test_impossible_sampler_settings_are_refused(model_folder, change, hint):
    with pytest.raises(UsageError, match=hint):
        load_choice(choose_model(str(model_folder)), change)


def test_run_is_its_last_checkpoint_and_each_step_is_another_model(run_folder, model_folder):
    last, second, first, before = (load_choice(choose_model(f"{run_folder}{step}")) for step in ("", "@2", "@1", "@0"))
    assert [model.name for model in (last, second, first, before)] == [
        "trained@2",
        "trained@2",
        "trained@1",
        "trained@0",
    ]
    assert last.facts == second.facts
    assert len({model.facts["weights"] for model in (second, first, before)}) == 3
    assert np.array_equal(pixels(last), pixels(second))
    assert not np.array_equal(pixels(second), pixels(first))
    base = load_choice(choose_model(str(model_folder)), SIZES)
    assert np.array_equal(pixels(before), pixels(base))
    assert before.facts["weights"] == base.facts["weights"]


def test_base_model_is_drawn_from_in_what_fits_the_machine_or_as_asked(model_folder, unet_folder):
    fitting = settle("auto", examine(pick_device())).dtype
    for folder, sizes in ((model_folder, SIZES), (unet_folder, {"height": 32, "width": 64, "steps": 1})):
        choice = choose_model(str(folder))
        assert load_choice(choice, sizes).sampler["dtype"] == fitting
        for dtype in ("fp32", "bf16", "fp16"):
            model = load_choice(choice, sizes, dtype)
            assert model.sampler["dtype"] == dtype
            assert str(model.precision).startswith(f"{dtype} (as asked")


def test_precision_changes_what_is_drawn_and_fp16_draws(model_folder):
    choice = choose_model(str(model_folder))
    drawn = {dtype: pixels(load_choice(choice, SIZES, dtype)) for dtype in ("fp32", "bf16", "fp16")}
    for dtype in ("bf16", "fp16"):
        assert 0 < np.abs(drawn[dtype].astype(int) - drawn["fp32"]).mean() < 8


@pytest.mark.parametrize("step", ["", "@0"])
@pytest.mark.parametrize("trained_in", ["fp32", "bf16"])
def test_run_is_drawn_from_in_its_own_precision_or_as_asked(run_folder, step, trained_in):
    path = run_folder / "config.yaml"
    path.write_text(path.read_text().replace("dtype: auto", f"dtype: {trained_in}"))
    choice = choose_model(f"{run_folder}{step}")
    model = load_choice(choice)
    assert model.sampler["dtype"] == trained_in
    assert str(model.precision).startswith(f"{trained_in} (as {run_folder} was trained")
    other: Wanted = "bf16" if trained_in == "fp32" else "fp32"
    assert load_choice(choice, dtype=other).sampler["dtype"] == other


def test_run_says_what_it_was_trained_on_and_keeps_its_sampler(run_folder):
    model = load_choice(choose_model(f"{run_folder}@1"))
    assert model.trained_on == ("imagestats.edges@1",)
    assert model.facts["step"] == 1
    assert (model.sampler["steps"], model.sampler["height"]) == (2, 32)
    assert load_choice(choose_model(f"{run_folder}@0")).trained_on is None


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_a_checkpoint_with_its_trained_weights_says_so(run_folder, prompt_file, tmp_path, monkeypatch, command):
    """The average moves every fifth iteration here, and the run stands at the second."""
    monkeypatch.chdir(tmp_path)
    config = run_folder / "config.yaml"
    config.write_text(config.read_text().replace("evaluation_every: 1\n", "evaluation_every: 5\n"))
    words = {
        "eval": ["--suite", str(prompt_file), "--reward", "imagestats", "--workers", "0", "--output", "results"],
        "sample": ["--prompt", "x", "--output", "x.png"],
    }[command]
    done = CliRunner().invoke(app, [command, "--model", str(run_folder), *words])
    assert done.exit_code == 0, done.stderr
    assert (
        "dgpo: step-000002 holds the trained weights as they are: their average first moved at iteration 5 "
        "(averages.evaluation_every)\n"
    ) in done.stderr


def test_a_checkpoint_with_its_average_does_not(run_folder, capsys):
    policy, _, _ = load_trained(run_folder, 2, torch.device("cpu"), precision="fp32")
    policy.keep("average")
    policy.published = "average"
    taken = take_snapshot(policy, torch.optim.AdamW(policy.parameters), Progress(3, 3))
    save_checkpoint(run_folder / "checkpoints", policy, taken)
    load_choice(choose_model(f"{run_folder}@2"))
    assert "step-000002 holds the trained weights" in capsys.readouterr().err
    load_choice(choose_model(f"{run_folder}@3"))
    assert "trained weights" not in capsys.readouterr().err


def test_damaged_last_checkpoint_gives_way_to_the_one_before_and_says_so(run_folder, capsys):
    damage(run_folder, 2)
    assert choose_model(str(run_folder)).step == 1
    said = capsys.readouterr().err
    assert "step-000002" in said
    assert "damaged" in said
    assert (run_folder / "checkpoints" / "step-000002").is_dir()


def test_damaged_checkpoint_that_was_asked_for_is_refused(run_folder):
    damage(run_folder, 1)
    with pytest.raises(UsageError, match="step-000001 cannot be used"):
        choose_model(f"{run_folder}@1")


def test_run_without_a_sound_checkpoint_is_refused(run_folder):
    damage(run_folder, 1)
    damage(run_folder, 2)
    with pytest.raises(UsageError, match="no checkpoint that can be used"):
        choose_model(str(run_folder))


def test_absent_step_names_those_that_are_there(run_folder):
    with pytest.raises(UsageError, match=r"no checkpoint of step 7; it has 1, 2\."):
        choose_model(f"{run_folder}@7")


def test_another_training_in_the_same_folder_is_another_model(run_folder):
    before = load_choice(choose_model(f"{run_folder}@1")).facts
    path = run_folder / "checkpoints" / "step-000001" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3))
    assert load_choice(choose_model(f"{run_folder}@1")).facts["weights"] != before["weights"]


def test_run_is_measured_after_the_file_of_its_reward_is_gone(run_folder):
    config = run_folder / "config.yaml"
    config.write_text(config.read_text().replace("imagestats.edges=2", "/gone/sharp.py:Sharp"))
    (run_folder / "run.json").write_text(json.dumps({"reward_provenance": {"sharp@1": {"engine": "Sharp"}}}))
    assert load_choice(choose_model(str(run_folder))).trained_on == ("sharp@1",)
