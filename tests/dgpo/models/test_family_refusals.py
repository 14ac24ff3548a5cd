"""What a family cannot do is a sentence, before weights are loaded where small files tell it."""

import json
from pathlib import Path

import pytest
import torch

from dgpo.config import check_config
from dgpo.load import check_drawable, check_learnable, default_sampling, load_model
from dgpo.sections import Sampling
from rewards.errors import SetupError, UsageError
from tests.dgpo.models.tiny_folders import save_tiny


def small_files(folder: Path, name: str, **contents: object) -> str:
    """A folder with configs and no weights."""
    parts = {"scheduler/scheduler_config": {"_class_name": "FlowMatchEulerDiscreteScheduler"}, **contents}
    for part, text in {"model_index": {"_class_name": name}, **parts}.items():
        path = folder / f"{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(text))
    return str(folder)


def configs(**network: object) -> dict[str, object]:
    return {"transformer/config": network, "vae/config": {"block_out_channels": [8, 8, 8, 8]}}


def learn(model: str, **changes: object) -> None:
    check_learnable(check_config({"model": model, **changes}, "the test"))


def test_a_model_distilled_to_few_steps_is_not_learned_by_its_errors(tmp_path):
    model = small_files(tmp_path, "FluxPipeline", **configs(guidance_embeds=False))
    for algorithm in ("dgpo", "nft", "awm", "diffusion-dpo"):
        with pytest.raises(UsageError, match=f"distilled to a few steps, and {algorithm} learns from how far"):
            learn(model, algorithm=algorithm)
    learn(model, algorithm="flow-grpo")


def test_klein_says_so_in_its_index(tmp_path):
    model = small_files(tmp_path, "Flux2KleinPipeline", **configs())
    learn(model)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "is_distilled": True}))
    with pytest.raises(UsageError, match="distilled"):
        learn(model)
    with pytest.raises(UsageError, match=r"takes none \(is_distilled is true"):
        check_drawable(model, Sampling(guidance=4.0, sampler="euler"))
    sampling = default_sampling(model)
    assert sampling is not None
    assert (sampling.steps, sampling.guidance) == (4, 1.0)


@pytest.mark.parametrize("name", ["FluxPipeline", "Flux2Pipeline"])
def test_a_network_that_is_told_its_guidance_has_none_to_compare_with(tmp_path, name):
    model = small_files(tmp_path, name, **configs(guidance_embeds=True))
    learn(model)
    with pytest.raises(UsageError, match="takes its guidance as an input"):
        learn(model, dgpo={"reference_guidance": 4.5})


def test_one_that_takes_none_is_asked_for_none(tmp_path):
    model = small_files(tmp_path, "FluxPipeline", **configs(guidance_embeds=False))
    with pytest.raises(UsageError, match=r"sampling\.guidance is 3\.5, and this model takes none"):
        check_drawable(model, Sampling(guidance=3.5, sampler="euler"))
    assert check_drawable(model, Sampling(guidance=1.0, sampler="euler", steps=4))


def test_noise_on_the_way_is_for_rectified_flows(tmp_path):
    unet = {"unet/config": {}, "vae/config": {"block_out_channels": [8, 8, 8, 8]}}
    scheduler = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"}
    model = small_files(tmp_path, "StableDiffusionXLPipeline", **unet, **{"scheduler/scheduler_config": scheduler})
    learn(model)
    for changes in ({"algorithm": "flow-grpo"}, {"rollout": {"noise": "sde"}}):
        with pytest.raises(UsageError, match="where rollouts with noise on the way"):
            learn(model, **changes)
    with pytest.raises(UsageError, match="this model takes euler or dpm2"):
        check_drawable(model, Sampling(sampler="dpm++"))
    (tmp_path / "scheduler/scheduler_config.json").write_text(
        json.dumps({**scheduler, "prediction_type": "v_prediction"})
    )
    with pytest.raises(UsageError, match="a network that predicts epsilon"):
        check_drawable(model, Sampling(sampler="euler"))


@pytest.mark.parametrize(
    ("name", "network", "size", "near"),
    [
        ("FluxPipeline", {"guidance_embeds": True}, 40, "32 or 48"),
        ("Flux2Pipeline", {}, 40, "32 or 48"),
        ("QwenImagePipeline", {}, 8, "16 or 32"),
        ("ZImagePipeline", {}, 100, "96 or 112"),
        ("SanaPipeline", {}, 48, "32 or 64"),
    ],
)
def test_a_size_that_it_cannot_draw_is_refused_with_the_nearest(tmp_path, name, network, size, near):
    model = small_files(tmp_path, name, **configs(**network))
    with pytest.raises(UsageError, match=f"take {near}"):
        check_drawable(model, Sampling(sampler="euler", height=size, width=64))


def test_a_missing_part_is_named(tmp_path):
    folder = save_tiny("ZImagePipeline", tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "tokenizer": [None, None]}))
    with pytest.raises(SetupError, match=r"has no tokenizer \(null in its model_index\.json\)"):
        load_model(str(folder), dtype="fp32", device=torch.device("cpu"), text_length=64)


def test_parts_of_another_pipeline_are_told(model_folder):
    from dgpo.models.flux import Flux

    with pytest.raises(SetupError, match=r"StableDiffusion3|do not work together|could not be loaded"):
        Flux.load(model_folder, dtype=torch.float32, device=torch.device("cpu"), text_length=8)


def test_times_up_to_pure_noise_are_for_rectified_flows(tmp_path):
    scheduler = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"}
    parts = {"unet/config": {}, "vae/config": {}, "scheduler/scheduler_config": scheduler}
    model = small_files(tmp_path, "StableDiffusionXLPipeline", **parts)
    learn(model, algorithm="diffusion-dpo")
    with pytest.raises(UsageError, match=r"give diffusion_dpo\.choice=table"):
        learn(model, algorithm="diffusion-dpo", diffusion_dpo={"choice": "logit-normal"})
