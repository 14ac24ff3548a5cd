"""`--lora`: a LoRA made by anybody on a base model, by the program."""

import csv
import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from dgpo.checkpoint import LORA_FILE
from tests.cli.toys import SETTINGS, dgpo, prepare, train
from tests.dgpo.models.test_conformance import TEXT_LENGTH
from tests.dgpo.models.tiny_folders import save_tiny

SAMPLING = {"height": 32, "width": 64, "steps": 2, "guidance": 1.0, "sampler": "euler"}
LAYER = "transformer.transformer_blocks.0.attn.to_out.0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny("FluxPipeline", tmp_path / "model")
    prepare(tmp_path, "./model", {})
    return tmp_path


def evaluate(output, *words, model="./model", length=24, code=0):
    sampling = {**SAMPLING, "text_length": length}
    sets = [word for name, value in sampling.items() for word in ("--set", f"sampling.{name}={value}")]
    words = ("--model", model, *words, "--suite", "prompts.txt", "--reward", "bright.py:Bright", "--workers", "0")
    return dgpo("eval", *words, *sets, "--dtype", "fp32", "--output", output, code=code)


def images(output):
    with open(f"{output}/scores.csv", newline="") as file:
        return {row["prompt_id"]: row["image_sha"] for row in csv.DictReader(file)}


def matrices(seed=3):
    """A LoRA of one layer of 32 to 32 numbers, rank 4."""
    draw = torch.Generator().manual_seed(seed)
    return {"A": torch.randn(4, 32, generator=draw), "B": torch.randn(32, 4, generator=draw)}


@pytest.mark.parametrize("name", ["FluxPipeline", pytest.param("QwenImagePipeline", marks=pytest.mark.slow)])
def test_what_a_run_published_draws_as_the_run_does(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    save_tiny(name, tmp_path / "model")
    length = TEXT_LENGTH.get(name, 24)
    sampling = {**SETTINGS["sampling"], "sampler": "euler", "text_length": length}
    once = {"dgpo": {"times": 2, "min_sigma": 0.1}, "optimizer": {"learning_rate": 0.05}}
    prepare(tmp_path, "./model", {"sampling": sampling, **once})
    train("run")
    evaluate("base", length=length)
    evaluate("trained", model="run", length=length)
    evaluate("lora", "--lora", f"run/checkpoints/step-000002/{LORA_FILE}", length=length)
    assert images("lora") == images("trained")
    assert images("lora") != images("base")


def test_files_of_diffusers_peft_and_kohya_draw_the_same(folder):
    down, up = matrices().values()
    alpha = torch.tensor(4.0)
    forms = {
        "diffusers": {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up},
        "kohya": {
            "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": down,
            "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": up,
            "lora_unet_double_blocks_0_img_attn_proj.alpha": alpha,
        },
    }
    forms["peft"] = {
        key.replace("transformer.", "base_model.model."): value / 2 if "lora_B" in key else value
        for key, value in forms["diffusers"].items()
    }
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    drawn = {}
    for name, tensors in forms.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, f"{name}.safetensors")
        evaluate(name, "--lora", f"{name}.safetensors")
        drawn[name] = images(name)
    evaluate("base")
    assert drawn["diffusers"] == drawn["kohya"] == drawn["peft"] != images("base")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "use_dora": True}))
    assert "DoRA, which is not read here" in evaluate("other", "--lora", "peft.safetensors", code=2)
    (folder / "adapter_config.json").unlink()
    assert "put that file beside it" in evaluate("other", "--lora", "peft.safetensors", code=2)


def test_its_contents_are_recorded_and_another_is_another_model(folder):
    down, up = matrices().values()
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, "style.safetensors")
    evaluate("out", "--lora", "style.safetensors")
    facts = json.loads((folder / "out/run.json").read_text())["model"]
    assert facts["lora"] == str(folder / "style.safetensors")
    assert facts["lora_contents"] == f"sha256:{hashlib.sha256((folder / 'style.safetensors').read_bytes()).hexdigest()}"
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": 2 * up}, "style.safetensors")
    assert "model" in evaluate("out", "--lora", "style.safetensors", code=2)


def test_sample_draws_with_it_too(folder):
    down, up = matrices().values()
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, "style.safetensors")
    sets = [word for name, value in SAMPLING.items() for word in ("--set", f"sampling.{name}={value}")]
    words = ("--model", "./model", "--prompt", "a cat", "--dtype", "fp32", *sets, "--set", "sampling.text_length=24")
    for output, more in (("plain.png", ()), ("styled.png", ("--lora", "style.safetensors"))):
        dgpo("sample", *words, "--output", output, *more)
    assert (folder / "plain.png").read_bytes() != (folder / "styled.png").read_bytes()


def test_what_is_none_or_anothers_is_refused(folder, model_folder):
    down, up = matrices().values()
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, "style.safetensors")
    other = LAYER.replace("transformer_blocks.0", "transformer_blocks.7")
    files = {
        "of another depth": {f"{other}.lora_A.weight": down, f"{other}.lora_B.weight": up},
        "of a narrower one": {f"{LAYER}.lora_A.weight": down[:, :8], f"{LAYER}.lora_B.weight": up},
        "of a wider one": {f"{LAYER}.lora_A.weight": down.repeat(1, 2), f"{LAYER}.lora_B.weight": up},
        "of an unet": {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up},
        "of nothing": {"weight": down},
    }
    for name, tensors in files.items():
        path = folder / f"{name.replace(' ', '-')}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        said = evaluate("out", "--lora", path.name, code=2)
        assert path.name in said, said
        assert "Traceback" not in said
        assert not (folder / "out/scores.csv").exists()
    (folder / "cut.safetensors").write_bytes((folder / "style.safetensors").read_bytes()[:50])
    assert "or is cut off" in evaluate("out", "--lora", "cut.safetensors", code=2)
    (folder / "style.bin").write_bytes(b"no")
    assert "is no .safetensors file" in evaluate("out", "--lora", "style.bin", code=2)
    assert "There is no LoRA ./absent" in evaluate("out", "--lora", "./absent", code=2)
    (folder / "empty").mkdir()
    assert "holds 0 .safetensors files" in evaluate("out", "--lora", "empty", code=2)


def test_a_run_has_its_own(folder, run_folder):
    assert "--lora is for a base model" in evaluate("out", "--lora", "x.safetensors", model=str(run_folder), code=2)


def test_a_folder_names_its_only_file(folder):
    down, up = matrices().values()
    (folder / "styles").mkdir()
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, "styles/one.safetensors")
    evaluate("out", "--lora", "styles")
    assert load_file("styles/one.safetensors")
    shutil.copy("styles/one.safetensors", "styles/two.safetensors")
    assert "holds 2 .safetensors files" in evaluate("other", "--lora", "styles", code=2)
