"""`dgpo train --dry-run` says what memory each process takes, before anything large is on the machine."""

import json
import re
import shutil

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.machines.published_layouts import save_layout
from cli.commands import app
from dgpo.config import load_config
from dgpo.load import load_outline
from dgpo.memory import total_memory

NEEDED = ("--reward", "ocr", "--set", "evaluation.every=0")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "prompts.txt").write_text('a red sign that says "tea"\n')
    return tmp_path


def plan(*words):
    done = CliRunner().invoke(app, ["train", "--dry-run", "--prompts", "prompts.txt", *NEEDED, *words])
    assert done.exit_code == 0, done.stderr
    return " ".join(done.stderr.split())


def test_processes_of_this_machine_have_a_share_of_it():
    said = plan("--model", "tiny", "--num-processes", "2", "--set", "training.dtype=fp32")
    assert "memory of each of 2 processes, without rewards, in GiB: network 0.01, Python 1.0" in said
    assert f"of {total_memory() / 2**31:.1f} that this CPU has" in said


def test_gpus_can_be_planned_for_where_there_are_none():
    said = plan("--model", "tiny", "--gpu-memory", "80")
    assert "precision: bf16 (a GPU of 80 GiB computes in it)" in said
    assert "reading prompts" in said
    assert "of 80.0 that a GPU of 80 GiB has" in said
    refused = CliRunner().invoke(app, ["train", *NEEDED, "--gpu-memory", "80"])
    assert refused.exit_code == 2
    assert "--gpu-memory is for --dry-run" in refused.stderr


def test_of_a_model_that_is_not_here_nothing_is_told_and_nothing_fetched():
    said = plan("--model", "owner/name", "--recipe", "ocr")
    assert "can be told once the small files (*.json) of owner/name are on this machine" in said


def test_what_cannot_be_planned_is_not_refused(place, model_folder):
    folder = shutil.copytree(model_folder, place / "model")
    config = folder / "transformer/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_attention_heads": "many"}))
    sizes = ("--set", "sampling.height=32", "--set", "sampling.width=64")
    said = plan("--model", "./model", "--recipe", "ocr", *sizes)
    assert re.search(r"memory: it cannot be told for \S+ \(TypeError: ", said), said
    assert "would train in" in said


SIZES = {
    "StableDiffusion3Pipeline": (2.243, 5.581),
    "FluxPipeline": (11.901, 4.885),
    "QwenImagePipeline": (20.430, 8.292),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_published_models_in_full_size(place, name):
    """Numbers of weights of network and text encoders, in billions, as published."""
    folder = save_layout(name, place / "model")
    model = load_outline(load_config("ocr", {"model": str(folder)}).in_precision("bf16"))
    assert model is not None
    network = sum(parameter.numel() for parameter in model.transformer.parameters())
    parts = {name: part for name, part in model.pipeline.components.items() if name.startswith("text_encoder")}
    encoders = sum(parameter.numel() for part in parts.values() for parameter in part.parameters())
    assert (network / 1e9, encoders / 1e9) == pytest.approx(SIZES[name], abs=1e-3)
    said = plan("--model", "./model", "--gpu-memory", "80", "--num-processes", "8")
    held = float(re.search(r"network (\d+\.\d)", said)[1])  # pyright: ignore[reportOptionalSubscript]
    assert held >= 2 * network / 2**30 - 0.1
    assert "training.offload=true" in plan("--model", "./model", "--gpu-memory", str(int(held) + 6))


def test_a_device_that_is_full_is_no_bug(monkeypatch):
    def fail(*arguments, **settings):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1 GiB"
        )

    monkeypatch.setattr("dgpo.sample.draw_latents", fail)
    done = CliRunner().invoke(app, ["sample", "--prompt", "a cat", "--model", "tiny", "--output", "cat.png"])
    assert done.exit_code == 3
    assert "The device's memory is used up (CUDA out of memory); what is finished is kept." in done.stderr
    assert "Traceback" not in done.stderr
