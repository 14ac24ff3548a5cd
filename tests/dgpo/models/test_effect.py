"""Settings without effect, on the config files of published models, and on what a small pipeline really draws."""

import inspect
import json

import diffusers
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from dgpo.models.effect import _Model, refuse_without_effect
from dgpo.models.pipeline import TextToImage, argument_names, settle_arguments
from rewards.errors import UsageError
from rewards.prompt import Prompt
from tests.dgpo.unet import STEPS, save_unet

CPU = torch.device("cpu")
SIZES = {"steps": 2, "height": 32, "width": 32}
FLUX = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
FLUX2 = {"_class_name": "Flux2Pipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
KLEIN = {"_class_name": "Flux2KleinPipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
QWEN = {"_class_name": "QwenImagePipeline", "transformer": ["diffusers", "QwenImageTransformer2DModel"]}
LCM = {"_class_name": "LatentConsistencyModelPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
UNET = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
}
EULER = {**UNET, "scheduler": ["diffusers", "EulerDiscreteScheduler"]}


@pytest.fixture(scope="module")
def unet_folder(tmp_path_factory):
    return save_unet(tmp_path_factory.mktemp("models") / "unet")


def written(folder, index, **configs):
    (folder / "model_index.json").write_text(json.dumps(index))
    for part, kind in index.items():
        if isinstance(kind, list) and part != "scheduler":
            (folder / part).mkdir()
            (folder / part / "config.json").write_text(json.dumps(configs.get(part, {})))
    return folder


def check(folder, settings):
    family = getattr(diffusers, json.loads((folder / "model_index.json").read_text())["_class_name"])
    refuse_without_effect(family, folder, settings, settle_arguments(family, settings), argument_names(family))


@pytest.mark.parametrize(
    ("index", "configs", "settings", "hint"),
    [
        (FLUX, {"transformer": {"guidance_embeds": False}}, {"guidance": 3.0}, "guidance_embeds is false"),
        (FLUX, {}, {"guidance": 3.0}, "guidance_embeds is false"),
        (FLUX, {}, {"negative_prompt": "x"}, r"negative_prompt has no effect .* sampling\.true_cfg_scale is 1"),
        ({**KLEIN, "is_distilled": True}, {"transformer": {"guidance_embeds": False}}, {"guidance": 4.0}, "distilled"),
        (QWEN, {}, {"negative_prompt": "x", "guidance": 1.0}, r"sampling\.guidance is 1, .* give a larger one"),
        (UNET, {}, {"negative_prompt": "x", "guidance": 1.0}, r"sampling\.guidance is 1, .* give a larger one"),
        (UNET, {"unet": {"time_cond_proj_dim": 256}}, {"negative_prompt": "x"}, "draws without guidance"),
        (EULER, {}, {"eta": 0.5}, "its scheduler, EulerDiscreteScheduler, does not take it"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, index, configs, settings, hint):
    with pytest.raises(UsageError, match=hint):
        check(written(tmp_path, index, **configs), settings)


@pytest.mark.parametrize(
    ("index", "configs", "settings"),
    [
        (FLUX, {"transformer": {"guidance_embeds": True}}, {"guidance": 3.0}),
        (FLUX, {}, {"negative_prompt": "x", "true_cfg_scale": 2.0}),
        (FLUX2, {}, {"guidance": 4.0}),
        (KLEIN, {"transformer": {"guidance_embeds": False}}, {"guidance": 4.0}),
        (QWEN, {}, {"negative_prompt": "x", "guidance": 2.0}),
        (UNET, {}, {"negative_prompt": "x", "guidance": 2.0, "eta": 0.5}),
        (UNET, {}, {"guidance": 1.0}),
        (UNET, {"unet": {"time_cond_proj_dim": 256}}, {"guidance": 8.0}),
        (LCM, {"unet": {"time_cond_proj_dim": 256}}, {"guidance": 8.0}),
    ],
)
def test_settings_that_act_are_taken(tmp_path, index, configs, settings):
    check(written(tmp_path, index, **configs), settings)


def test_every_family_can_be_asked_whether_a_scale_guides(tmp_path):
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    place = written(tmp_path, {})
    guided = {family: _Model(family, place).guides(4.0) for family in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    takes_negative = [one for one in guided if "negative_prompt" in inspect.signature(one.__call__).parameters]
    assert len(takes_negative) > 30
    assert all(guided[family] for family in takes_negative)


def test_what_is_refused_would_have_changed_no_pixel_and_what_is_taken_does(unet_folder):
    def draw(settings, scheduler=None):
        family = diffusers.StableDiffusionPipeline
        drawer = TextToImage(family.from_pretrained(unet_folder), {**SIZES, **settings})
        drawer.pipeline.scheduler = scheduler or drawer.pipeline.scheduler
        return np.asarray(drawer.draw([(Prompt("a red sign"), 0)])[0])

    assert np.array_equal(draw({"guidance": 1.0}), draw({"guidance": 1.0, "negative_prompt": "blue"}))
    assert not np.array_equal(draw({"guidance": 5.0}), draw({"guidance": 5.0, "negative_prompt": "blue"}))
    euler = EulerDiscreteScheduler(**STEPS)
    assert np.array_equal(draw({}, euler), draw({"eta": 1.0}, euler))
    assert not np.array_equal(draw({}), draw({"eta": 1.0}))
    with pytest.raises(UsageError, match="negative_prompt has no effect"):
        TextToImage.from_folder(
            unet_folder, {**SIZES, "guidance": 1.0, "negative_prompt": "blue"}, dtype=torch.float32, device=CPU
        )
