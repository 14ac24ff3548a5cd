"""A LoRA of a text encoder too: what guidance leads away from is read anew, and nothing read before is taken for it."""

import pytest
import torch
from safetensors.torch import save_file

from dgpo.models.conformance import LATENTS, Subject, apart, untrained
from tests.dgpo.models.tiny_folders import save_tiny

LAYER = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


def save_lora(path, width, rank=4):
    draw = torch.Generator().manual_seed(3)
    down, up = torch.randn(rank, width, generator=draw), torch.randn(width, rank, generator=draw)
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, path)
    return path


@pytest.mark.parametrize(("name", "width"), [("StableDiffusion3Pipeline", 64), ("StableDiffusionXLPipeline", 32)])
def test_a_text_encoders_lora_draws_as_in_the_plain_pipeline(tmp_path, name, width):
    file = save_lora(tmp_path / "style.safetensors", width)
    subject = Subject.of(save_tiny(name, tmp_path / "model"), 24)
    sampling = list(subject.samplings)[-1]
    assert sampling.guidance > 1
    before = subject.draw(untrained(subject.model), sampling)
    subject.model.embeddings = subject.model.open_embeddings("this model")
    subject.draw(untrained(subject.model), sampling)  # what is read now is another text's afterwards
    subject.model.add_lora(file)
    plain = subject.another().pipeline
    plain.load_lora_weights(str(file.parent), weight_name=file.name)
    ours = subject.draw(untrained(subject.model), sampling)
    assert apart(subject.model.own_latents(ours), subject.draw_theirs(plain, sampling)) < LATENTS
    assert apart(ours, before) > 100 * LATENTS
